from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.api.meta import ObjectMeta, OwnerReference
from kaito.local.workloads.discovery import DiscoveredGroup, served
from kaito.local.workloads.garbage import Observed, Owner, plan_collection
from kaito.local.workloads.graph import FOREGROUND, ORPHAN, Graph, Item
from kaito.local.workloads.plan import Delete, Patch
from kaito.local.workloads.resources import PODS
from tests.local.workloads.builders import at


def reference(uid: str, *, block: bool | None = None) -> OwnerReference:
    return OwnerReference("v1", "Pod", f"name-{uid}", uid, blockOwnerDeletion=block)


def item(uid: str, *owners: str | OwnerReference, deleting: bool = False, finalizers: tuple[str, ...] = ()) -> Item:
    references = [reference(owner) if isinstance(owner, str) else owner for owner in owners]
    gone = at(-1) if deleting else None
    return Item(
        PODS,
        ObjectMeta(
            name=f"name-{uid}",
            namespace="default",
            uid=uid,
            resourceVersion="7",
            deletionTimestamp=gone,
            finalizers=list(finalizers),
            ownerReferences=references,
        ),
    )


def plan(of: Item, owners: dict[str, Owner] | None = None, *dependents: Item) -> tuple[Any, ...]:
    return plan_collection(Observed(of, owners or {}, dependents))


def test_an_object_without_owners_stays() -> None:
    assert plan(item("a")) == ()


def test_an_object_whose_owner_is_there_stays() -> None:
    assert plan(item("a", "o"), {"o": Owner.SOLID}) == ()


@pytest.mark.parametrize(
    ("finalizers", "propagation"),
    [((), "Background"), ((ORPHAN,), "Orphan"), ((FOREGROUND,), "Foreground"), (("example.com/own",), "Background")],
)
def test_an_object_whose_owners_are_gone_goes(finalizers: tuple[str, ...], propagation: str) -> None:
    (action,) = plan(item("a", "o", "p", finalizers=finalizers), {"o": Owner.ABSENT, "p": Owner.ABSENT})
    assert action == Delete(PODS, "default", "name-a", "a", propagation)


def test_one_owner_that_stays_is_enough_and_the_other_is_forgotten() -> None:
    (action,) = plan(item("a", "o", "p"), {"o": Owner.ABSENT, "p": Owner.SOLID})
    assert isinstance(action, Patch)
    assert action.body["metadata"] == {
        "uid": "a",
        "resourceVersion": "7",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "name-p", "uid": "p"}],
    }


@pytest.mark.parametrize(("has_dependents", "propagation"), [(True, "Foreground"), (False, "Background")])
def test_foreground_deletion_goes_down_the_tree(has_dependents: bool, propagation: str) -> None:
    dependents = [item("d", "a")] if has_dependents else []
    (action,) = plan(item("a", "o"), {"o": Owner.WAITING}, *dependents)
    assert action.propagation == propagation


@pytest.mark.parametrize(("block", "waits"), [(True, True), (False, False), (None, False)])
def test_only_blocking_dependents_hold_their_owner(block: bool | None, waits: bool) -> None:
    actions = plan(item("o", deleting=True, finalizers=("x", FOREGROUND)), {}, item("d", reference("o", block=block)))
    if waits:
        assert actions == ()
    else:
        assert actions[0].body["metadata"]["finalizers"] == ["x"]


def test_orphaning_releases_the_dependents_first() -> None:
    release, finish = plan(item("o", deleting=True, finalizers=(ORPHAN,)), {}, item("d", "o"))
    assert (release.name, release.body["metadata"]["ownerReferences"]) == ("name-d", None)
    assert (finish.name, finish.body["metadata"]["finalizers"]) == ("name-o", None)


def test_what_is_being_deleted_otherwise_is_left_alone() -> None:
    assert plan(item("a", "o", deleting=True, finalizers=("x",))) == ()


def test_the_graph_says_who_must_be_looked_at() -> None:
    graph = Graph()
    assert graph.put(item("d", "o")) == {"d"}
    assert graph.put(item("o")) == {"o"}
    assert graph.put(item("o")) == set()
    assert [d.metadata.uid for d in graph.dependents("o")] == ["d"]
    assert graph.put(item("o", deleting=True, finalizers=(FOREGROUND,))) == {"o", "d"}
    assert graph.remove("d") == {"o"}
    assert graph.remove("d") == set()
    assert graph.dependents("o") == []


def test_an_owner_that_goes_wakes_its_dependents() -> None:
    graph = Graph()
    graph.put(item("o"))
    graph.put(item("d", "o"))
    assert graph.remove("o") == {"d"}


names = st.sampled_from("abcde")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "remove"]), names, st.sets(names, max_size=3)), max_size=30))
def test_the_graph_is_what_its_objects_say(changes: list[tuple[str, str, set[str]]]) -> None:
    graph, objects = Graph(), dict[str, set[str]]()
    for change, uid, owners in changes:
        if change == "put":
            graph.put(item(uid, *sorted(owners)))
            objects[uid] = owners
        else:
            graph.remove(uid)
            objects.pop(uid, None)
    for owner in "abcde":
        assert {d.metadata.uid for d in graph.dependents(owner)} == {u for u, o in objects.items() if owner in o}
    assert {i.metadata.uid for i in graph.in_namespace("default")} == set(objects)


def test_kinds_from_discovery() -> None:
    verbs = ["delete", "list", "watch", "get"]
    document = [
        {
            "metadata": {"name": "kaito.sh"},
            "versions": [
                {"version": v, "resources": [_entry("workspaces", "Workspace", verbs)]} for v in ("v1beta1", "v1alpha1")
            ],
        },
        {
            "metadata": {"name": "events.k8s.io"},
            "versions": [{"version": "v1", "resources": [_entry("events", "Event", verbs)]}],
        },
        {
            "metadata": {"name": "authentication.k8s.io"},
            "versions": [{"version": "v1", "resources": [_entry("tokenreviews", "TokenReview", ["create"])]}],
        },
    ]
    found = served(msgspec.convert(document, list[DiscoveredGroup]))
    assert list(found.resources) == [("kaito.sh", "workspaces")]
    preferred = found.find("kaito.sh/v1alpha1", "Workspace")
    assert preferred is not None
    assert (preferred.version, preferred.namespaced) == ("v1beta1", True)
    assert found.find("v1", "Unknown") is None


def _entry(plural: str, kind: str, verbs: list[str]) -> dict[str, Any]:
    return {"resource": plural, "scope": "Namespaced", "responseKind": {"kind": kind}, "verbs": verbs}
