from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.api.core import Generic
from kaito.api.meta import ObjectMeta
from kaito.kube.store import Store, fingerprint, is_older, key_of, object_key, split_key


def obj(name: str, version: int = 1, **labels: str) -> Generic:
    return Generic(ObjectMeta(name=name, namespace="default", resourceVersion=str(version), labels=labels))


def by_label(item: Generic) -> list[str]:
    return [f"{key}={value}" for key, value in item.metadata.labels.items()]


def put(store: Store[Generic], item: Generic) -> Generic | None:
    return store.put(key_of(item), item, msgspec.json.encode(item))


@pytest.mark.parametrize(("namespace", "name", "key"), [("ns", "a", "ns/a"), ("", "node", "node")])
def test_keys(namespace: str, name: str, key: str) -> None:
    assert object_key(namespace, name) == key
    assert split_key(key) == (namespace, name)
    assert key_of({"metadata": {"namespace": namespace, "name": name}}) == key


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [("9", "10", True), ("10", "10", False), ("11", "10", False), ("a", "b", True), ("", "1", True)],
)
def test_versions_are_numbers(version: str, than: str, older: bool) -> None:
    assert is_older(version, than) is older


def test_an_index_follows_its_objects() -> None:
    store: Store[Generic] = Store({"label": by_label})
    put(store, obj("b", x="1"))
    put(store, obj("a", x="1"))
    assert [o.metadata.name for o in store.by_index("label", "x=1")] == ["a", "b"]
    assert put(store, obj("a", 2, x="2")) == obj("a", x="1")
    assert [o.metadata.name for o in store.by_index("label", "x=1")] == ["b"]
    store.remove("default/b")
    assert store.by_index("label", "x=1") == []


labels = st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"))
changes = st.lists(st.tuples(st.sampled_from("abc"), st.none() | labels), max_size=25)


@settings(max_examples=150, deadline=None)
@given(changes)
def test_an_index_says_what_a_search_would(changes: list[tuple[str, dict[str, str] | None]]) -> None:
    store: Store[Generic] = Store({"label": by_label})
    for version, (name, wanted) in enumerate(changes):
        if wanted is None:
            store.remove(f"default/{name}")
        else:
            put(store, obj(name, version, **wanted))
    for value in ("x=1", "x=2", "y=1", "y=2"):
        assert store.by_index("label", value) == sorted(
            (o for o in store.values() if value in by_label(o)), key=lambda o: o.metadata.name
        )


def test_an_own_write_is_awaited_until_the_cache_has_it() -> None:
    store: Store[Generic] = Store()
    put(store, obj("a", 5))
    store.observe_own_write("default/a", "9")
    assert store.is_behind("default/a")
    put(store, obj("a", 8))
    assert store.is_behind("default/a")
    put(store, obj("a", 9))
    assert not store.is_behind("default/a")
    store.observe_own_write("default/a", "7")
    assert not store.is_behind("default/a")


def test_an_own_write_that_is_gone_again_is_not_awaited_for_ever() -> None:
    store: Store[Generic] = Store()
    store.observe_own_write("default/a", "9")
    store.reach("8")
    assert store.is_behind("default/a")
    store.reach("9")  # A relist at this version would have shown it: it was deleted since.
    assert not store.is_behind("default/a")


def test_a_deletion_ends_the_wait() -> None:
    store: Store[Generic] = Store()
    put(store, obj("a", 5))
    store.observe_own_write("default/a", "9")
    store.remove("default/a")
    assert not store.is_behind("default/a")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"spec":{"a":1}}', b'{"spec":{"a":1},"status":{"x":2},"metadata":{"resourceVersion":"3"}}', True),
        (b'{"spec":{"a":1}}', b'{"spec":{"a":2}}', False),
        (b'{"data":{"a":"1"}}', b'{"data":{"a":"2"}}', False),
        (b'{"kind":"x"}', b'{"kind":"y"}', True),
    ],
)
def test_a_fingerprint_is_of_spec_and_data(one: bytes, other: bytes, same: bool) -> None:
    assert (fingerprint(one) == fingerprint(other)) is same


def test_a_store_keeps_fingerprints_when_told() -> None:
    store: Store[Generic] = Store(fingerprints=True)
    put(store, obj("a"))
    assert store.fingerprint("default/a")
    store.remove("default/a")
    assert store.fingerprint("default/a") == ""
