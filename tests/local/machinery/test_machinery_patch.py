"""JSON patch, merge patch and strategic merge patch."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.local.machinery.errors import StatusError
from kaito.local.machinery.patch import json_patch, merge_patch, strategic_merge_patch
from kaito.local.machinery.schema import Schema
from tests.local.machinery.builders import deployment, kind

Json = dict[str, Any]

DEPLOYMENT = kind("Deployment", "apps").schema


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        ([{"op": "replace", "path": "/a", "value": 2}], {"a": 2, "l": [1, 2]}),
        ([{"op": "add", "path": "/l/-", "value": 3}], {"a": 1, "l": [1, 2, 3]}),
        ([{"op": "remove", "path": "/a"}], {"l": [1, 2]}),
        ([{"op": "test", "path": "/a", "value": 1}, {"op": "move", "from": "/a", "path": "/b"}], {"b": 1, "l": [1, 2]}),
    ],
    ids=["replace", "append", "remove", "test and move"],
)
def test_json_patch(ops: list[Json], expected: Json) -> None:
    doc = {"a": 1, "l": [1, 2]}
    assert json_patch(doc, ops) == expected
    assert doc == {"a": 1, "l": [1, 2]}


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ({"op": "add"}, 400),
        ([{"op": "fly", "path": "/a"}], 422),
        ([{"path": "/a"}], 422),
        ([1], 400),
        ([{"op": "replace", "path": "/missing", "value": 1}], 422),
        ([{"op": "test", "path": "/a", "value": 9}], 422),
        ([{"op": "add", "path": "/l/9", "value": 1}], 422),
        ([{"op": "replace", "path": "", "value": 3}], 422),
    ],
    ids=str,
)
def test_json_patch_refused(ops: Any, code: int) -> None:
    with pytest.raises(StatusError) as refused:
        json_patch({"a": 1, "l": [1]}, ops)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("doc", "patch", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({"a": 1}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({}, {"x": None}, {}),
    ],
)
def test_merge_patch(doc: Json, patch: Json, expected: Json) -> None:
    before = copy.deepcopy(doc)
    assert merge_patch(doc, patch) == expected
    assert doc == before


def pod_spec(obj: Json) -> Json:
    found: Json = obj["spec"]["template"]["spec"]
    return found


def patched(**pod: Any) -> Json:
    before = deployment()
    untouched = copy.deepcopy(before)
    result = strategic_merge_patch(before, {"spec": {"template": {"spec": pod}}}, DEPLOYMENT)
    assert before == untouched
    return pod_spec(result)


def test_lists_merge_by_key() -> None:
    spec = patched(containers=[{"name": "web", "image": "nginx:2"}, {"name": "log", "image": "l"}])
    assert [(item["name"], item["image"]) for item in spec["containers"]] == [("web", "nginx:2"), ("log", "l")]
    assert spec["containers"][0]["ports"] == [{"containerPort": 80}]


def test_delete_directive() -> None:
    spec = patched(containers=[{"name": "web", "ports": [{"containerPort": 80, "$patch": "delete"}]}])
    assert spec["containers"][0]["ports"] == []


def test_replace_directive() -> None:
    assert patched(containers=[{"$patch": "replace"}, {"name": "new"}])["containers"] == [{"name": "new"}]
    replaced = strategic_merge_patch(deployment(), {"metadata": {"$patch": "replace", "name": "b"}}, DEPLOYMENT)
    assert replaced["metadata"] == {"name": "b"}


def test_atomic_lists_are_replaced() -> None:
    assert patched(tolerations=[{"key": "a"}])["tolerations"] == [{"key": "a"}]


def test_element_order() -> None:
    spec = patched(
        **{"$setElementOrder/containers": [{"name": "log"}, {"name": "web"}]},
        containers=[{"name": "log", "image": "l"}],
    )
    assert [item["name"] for item in spec["containers"]] == ["log", "web"]


def test_retain_keys() -> None:
    before = deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge_patch(before, patch, DEPLOYMENT)["spec"]["strategy"] == {"type": "Recreate"}


def test_primitive_lists() -> None:
    before = {"metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d", "a"]}}
    assert strategic_merge_patch(before, patch, DEPLOYMENT)["metadata"]["finalizers"] == ["d", "a", "c"]


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"metadata": {"$patch": "fly"}},
        {"spec": {"template": {"spec": {"containers": [{"image": "no name"}]}}}},
        {"spec": {"template": {"spec": {"containers": ["text"]}}}},
        {"spec": {"template": {"spec": {"containers": [], "$setElementOrder/containers": 3}}}},
        {"spec": {"strategy": {"$retainKeys": ["type"], "other": 1}}},
    ],
    ids=str,
)
def test_strategic_refused(patch: Any) -> None:
    with pytest.raises(StatusError) as refused:
        strategic_merge_patch(deployment(), patch, DEPLOYMENT)
    assert refused.value.code == 400


# --- the law: a patch computed from (a, b) turns a into b
# ----------------------------------------------------------------

LAW_SCHEMA = Schema(
    {
        "type": "object",
        "properties": {
            "plain": {"type": "object", "additionalProperties": {"type": "string"}},
            "atomic": {"type": "array", "items": {"type": "integer"}},
            "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"},
            "keyed": {
                "type": "array",
                "x-kubernetes-patch-strategy": "merge",
                "x-kubernetes-patch-merge-key": "name",
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "v": {"type": "integer"}, "w": {"type": "integer"}},
                },
            },
        },
    }
)
names = st.sampled_from(["a", "b", "c", "d", "e"])
keyed_items = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"v": st.integers(0, 3), "w": st.integers(0, 3)}),
    max_size=5,
    unique_by=lambda item: item["name"],
)
law_objects = st.fixed_dictionaries(
    {},
    optional={
        "plain": st.dictionaries(names, names, max_size=3),
        "atomic": st.lists(st.integers(0, 3), max_size=3),
        "set": st.lists(names, max_size=4, unique=True),
        "keyed": keyed_items,
    },
)


def diff(a: Json, b: Json) -> Json:
    """The strategic merge patch from `a` to `b`, as a client computes it."""
    patch: Json = {key: None for key in a if key not in b}
    for key, value in b.items():
        if key not in a:
            patch[key] = value
        elif key == "set":
            patch |= {"set": [item for item in value if item not in a[key]], "$setElementOrder/set": value}
            patch["$deleteFromPrimitiveList/set"] = [item for item in a[key] if item not in value]
        elif key == "keyed":
            patch |= {"keyed": diff_items(a[key], value)}
            patch["$setElementOrder/keyed"] = [{"name": item["name"]} for item in value]
        elif isinstance(value, dict) and isinstance(a[key], dict):
            patch[key] = diff(a[key], value)
        elif value != a[key]:
            patch[key] = value
    return patch


def diff_items(a: list[Json], b: list[Json]) -> list[Json]:
    old = {item["name"]: item for item in a}
    new = {item["name"]: item for item in b}
    changed = [{**diff(old.get(name, {}), item), "name": name} for name, item in new.items() if old.get(name) != item]
    return changed + [{"name": name, "$patch": "delete"} for name in old if name not in new]


@settings(max_examples=300)
@given(law_objects, law_objects)
def test_patch_turns_a_into_b(a: Json, b: Json) -> None:
    before = copy.deepcopy(a)
    assert strategic_merge_patch(a, diff(a, b), LAW_SCHEMA) == b
    assert a == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("spec", "template", "containers", "name", "ports", "containerPort", "metadata", "finalizers"),
                    *("$patch", "$retainKeys", "$setElementOrder/containers"),
                    *("$deleteFromPrimitiveList/finalizers", "op", "path", "value"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["spec", "metadata", "x"]), json_values, max_size=3), json_values)
def test_only_status_errors_leave(doc: Json, patch: Any) -> None:
    for call in (
        lambda: json_patch(doc, patch),
        lambda: merge_patch(doc, patch),
        lambda: strategic_merge_patch(doc, patch, DEPLOYMENT),
        lambda: strategic_merge_patch(doc, {"spec": {"template": {"spec": patch}}}, DEPLOYMENT),
    ):
        try:
            json.dumps(call())
        except StatusError as refused:
            assert 400 <= refused.code < 500
