"""Server-side apply and the owners of fields."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kaito.local.machinery.apply import apply, track
from kaito.local.machinery.errors import StatusError
from tests.local.machinery.builders import deployment, kind, schema

Json = dict[str, Any]

WIDGET = schema()
DEPLOYMENT = kind("Deployment", "apps").schema


def widget(**fields: Any) -> Json:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "namespace": "d"}, **fields}


def applied(live: Json | None, obj: Json, manager: str = "one", *, force: bool = False, now: str = "T1") -> Json:
    return apply(
        live,
        obj,
        manager=manager,
        force=force,
        schema=WIDGET,
        api_version="example.com/v1",
        subresource="",
        now=now,
    )


def tracked(
    before: Json | None, after: Json, manager: str = "editor", *, subresource: str = "", now: str = "T1"
) -> Json:
    return track(
        before,
        after,
        manager=manager,
        schema=WIDGET,
        api_version="example.com/v1",
        subresource=subresource,
        now=now,
    )


def owners(obj: Json) -> dict[str, Json]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])}


def content(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}


def test_created_by_apply() -> None:
    obj = applied(None, widget(spec={"size": 1, "parts": [{"name": "a", "note": "x"}], "tags": ["t"], "plain": [1]}))
    assert obj["metadata"]["managedFields"] == [
        {
            "manager": "one",
            "operation": "Apply",
            "apiVersion": "example.com/v1",
            "time": "T1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:spec": {
                    "f:size": {},
                    "f:parts": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:note": {}}},
                    "f:tags": {'v:"t"': {}},
                    "f:plain": {},
                }
            },
        }
    ]


def test_conflict_and_force() -> None:
    live = applied(None, widget(spec={"size": 1, "mode": "fast"}))
    with pytest.raises(StatusError) as refused:
        applied(live, widget(spec={"size": 2}), "two")
    assert refused.value.code == 409
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "one": .spec.size'
    forced = applied(live, widget(spec={"size": 2}), "two", force=True)
    assert forced["spec"] == {"size": 2, "mode": "fast"}
    assert owners(forced) == {"one": {"f:spec": {"f:mode": {}}}, "two": {"f:spec": {"f:size": {}}}}


def test_conflict_with_an_editor_names_its_version() -> None:
    live = applied(None, widget(spec={"size": 1}))
    edited = copy.deepcopy(live)
    edited["spec"]["size"] = 5
    edited = tracked(live, edited, "kubectl")
    assert owners(edited) == {"kubectl": {"f:spec": {"f:size": {}}}}
    with pytest.raises(StatusError) as refused:
        applied(edited, widget(spec={"size": 1}))
    assert refused.value.status["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl" using example.com/v1',
            "field": ".spec.size",
        }
    ]


def test_equal_values_are_owned_together_and_stay_until_the_last_owner_leaves() -> None:
    live = applied(None, widget(spec={"size": 1, "mode": "fast"}))
    live = applied(live, widget(spec={"size": 1}), "two")
    live = applied(live, widget(spec={"mode": "fast"}))
    assert live["spec"] == {"size": 1, "mode": "fast"}
    live = applied(live, widget(spec={"tags": ["t"]}), "two")
    assert live["spec"] == {"mode": "fast", "tags": ["t"]}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"size": 1, "mode": "fast"}, {"size": 1}, {"size": 1}),
        ({"labels": {"a": "1", "b": "2"}}, {"labels": {"b": "2"}}, {"labels": {"b": "2"}}),
        ({"size": 1, "labels": {"a": "1"}}, {"size": 1}, {"size": 1}),
        ({"tags": ["a", "b"]}, {"tags": ["b"]}, {"tags": ["b"]}),
        (
            {"parts": [{"name": "a", "note": "x"}, {"name": "b"}]},
            {"parts": [{"name": "a"}]},
            {"parts": [{"name": "a"}]},
        ),
        ({"plain": [1, 2]}, {"plain": [2]}, {"plain": [2]}),
        ({"free": {"x": {"y": 1, "z": 2}}}, {"free": {"x": {"z": 2}}}, {"free": {"x": {"z": 2}}}),
    ],
    ids=["field", "map key", "whole map", "set item", "list map item", "atomic list", "preserved"],
)
def test_dropped_fields_are_removed(first: Json, second: Json, expected: Json) -> None:
    live = applied(None, widget(spec=first))
    assert applied(live, widget(spec=second))["spec"] == expected


def test_a_dropped_element_stays_while_another_manager_owns_a_part_of_it() -> None:
    live = applied(None, widget(spec={"parts": [{"name": "a", "weight": 1}]}))
    live = applied(live, widget(spec={"parts": [{"name": "a", "note": "mine"}]}), "two")
    live = applied(live, widget(spec={"size": 1}))
    assert live["spec"] == {"size": 1, "parts": [{"name": "a", "note": "mine"}]}


def test_defaults_of_a_dropped_element_go_with_it() -> None:
    live = applied(None, widget(spec={"parts": [{"name": "a"}, {"name": "b"}]}))
    WIDGET.default(live)
    assert applied(live, widget(spec={"parts": [{"name": "b"}]}))["spec"]["parts"] == [{"name": "b", "weight": 1}]


def test_list_order_follows_the_applier_and_keeps_foreign_elements() -> None:
    live = applied(None, widget(spec={"parts": [{"name": "x"}, {"name": "a"}, {"name": "b"}]}), "two")
    live = applied(live, widget(spec={"parts": [{"name": "b"}, {"name": "c"}]}))
    assert [item["name"] for item in live["spec"]["parts"]] == ["x", "a", "b", "c"]


def test_two_ports_of_one_number_are_two_elements() -> None:
    ports = [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]
    pod = {"containers": [{"name": "dns", "ports": ports}]}
    obj = apply(
        None,
        deployment(template={"spec": pod}),
        manager="m",
        force=False,
        schema=DEPLOYMENT,
        api_version="apps/v1",
        subresource="",
        now="T",
    )
    containers = owners(obj)["m"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"dns"}']
    assert sorted(containers["f:ports"]) == [
        'k:{"containerPort":53,"protocol":"TCP"}',
        'k:{"containerPort":53,"protocol":"UDP"}',
    ]


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (widget(spec={"parts": [{"note": "no name"}]}), 'omits key field "name"'),
        (widget(spec={"parts": [{"name": "a"}, {"name": "a"}]}), 'duplicate entries for key [name="a"]'),
        ({**widget(), "metadata": {"name": "a", "managedFields": [{"manager": "x"}]}}, "managedFields must be nil"),
    ],
    ids=["no key", "duplicate", "managed fields"],
)
def test_refused(obj: Json, words: str) -> None:
    with pytest.raises(StatusError) as refused:
        applied(None, obj)
    assert refused.value.code == 400
    assert words in refused.value.message


def test_nothing_changes_nothing_but_the_first_time() -> None:
    obj = widget(spec={"size": 1, "parts": [{"name": "a"}]})
    live = applied(None, obj)
    WIDGET.default(live)
    assert applied(live, obj, now="T2") == live
    unchanged = tracked(live, copy.deepcopy(live), now="T2")
    assert unchanged == live


def test_create_and_update_are_tracked() -> None:
    created = tracked(None, widget(spec={"size": 1, "tags": ["a"]}), "maker", now="T1")
    assert owners(created) == {"maker": {"f:spec": {".": {}, "f:size": {}, "f:tags": {".": {}, 'v:"a"': {}}}}}
    assert created["metadata"]["managedFields"][0]["operation"] == "Update"
    changed = copy.deepcopy(created)
    changed["spec"] = {"size": 2, "tags": ["a", "b"]}
    changed = tracked(created, changed, "editor", now="T2")
    assert owners(changed) == {
        "maker": {"f:spec": {".": {}, "f:tags": {".": {}, 'v:"a"': {}}}},
        "editor": {"f:spec": {"f:size": {}, "f:tags": {'v:"b"': {}}}},
    }


def test_status_has_entries_of_its_own() -> None:
    live = tracked(None, widget(spec={"size": 1}), "c")
    changed = tracked(live, {**copy.deepcopy(live), "status": {"phase": "Ready"}}, "c", subresource="status", now="T2")
    entries = changed["metadata"]["managedFields"]
    assert [(entry["manager"], entry.get("subresource")) for entry in entries] == [("c", None), ("c", "status")]
    assert entries[1]["fieldsV1"] == {"f:status": {".": {}, "f:phase": {}}}


def test_apply_to_status_leaves_the_rest_alone() -> None:
    live = applied(None, widget(spec={"size": 1}))
    result = apply(
        live,
        widget(spec={"size": 9}, status={"phase": "Ready"}),
        manager="c",
        force=False,
        schema=WIDGET,
        api_version="example.com/v1",
        subresource="status",
        now="T2",
    )
    assert content(result) == {"spec": {"size": 1}, "status": {"phase": "Ready"}}


@pytest.mark.parametrize("sent", [[], [{}]], ids=["empty", "one empty entry"])
def test_a_client_may_forget_the_owners(sent: list[Json]) -> None:
    live = applied(None, widget(spec={"size": 1}))
    edited = copy.deepcopy(live)
    edited["metadata"]["managedFields"] = sent
    assert "managedFields" not in tracked(live, edited)["metadata"]


def test_malformed_managed_fields_are_replaced_by_the_stored_ones() -> None:
    live = applied(None, widget(spec={"size": 1}))
    edited = copy.deepcopy(live)
    edited["metadata"]["managedFields"] = [{"manager": 3, "fieldsV1": {"bad": 1}}]
    assert tracked(live, edited)["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_inputs_are_not_changed() -> None:
    first, second = widget(spec={"size": 1, "parts": [{"name": "a", "note": None}]}), widget(spec={"size": 1})
    live = applied(None, first)
    copies = copy.deepcopy((first, second, live))
    applied(live, second)
    tracked(live, second)
    assert (first, second, live) == copies


# --- laws
# --------------------------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
parts = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"weight": st.integers(0, 3), "note": names}),
    max_size=3,
    unique_by=lambda item: item["name"],
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "size": st.integers(1, 3),
        "mode": st.sampled_from(["fast", "slow"]),
        "labels": st.dictionaries(names, names, max_size=3),
        "tags": st.lists(names, max_size=3, unique=True),
        "plain": st.lists(st.integers(0, 2), max_size=2),
        "parts": parts,
        "free": st.dictionaries(names, st.dictionaries(names, st.integers(0, 2), max_size=2), max_size=2),
    },
)


@settings(max_examples=200, deadline=None)
@given(specs, specs, specs)
def test_apply_twice_is_apply_once(first: Json, foreign: Json, second: Json) -> None:
    live = applied(None, widget(spec=first), "one")
    live = applied(live, widget(spec=foreign), "two", force=True)
    once = applied(live, widget(spec=second), "one", force=True, now="T2")
    # Empty keyed lists are owned by nobody: an object of nothing else counts as never applied, in Kubernetes too.
    assume(once["metadata"].get("managedFields"))
    assert applied(once, widget(spec=second), "one", force=False, now="T3") == once


@settings(max_examples=200, deadline=None)
@given(specs, specs)
def test_the_applier_gets_what_it_applied(first: Json, second: Json) -> None:
    live = applied(applied(None, widget(spec=first)), widget(spec=second))
    assert normal(live.get("spec", {})) == normal(second)


def normal(spec: Json) -> Json:
    """Without empty containers, and without the order in which list elements were first seen."""
    cleaned: Json = {}
    for key, value in spec.items():
        if isinstance(value, dict):
            value = {name: item for name, item in value.items() if item != {}}
        if key == "parts":
            value = sorted(value, key=lambda item: str(item["name"]))
        elif key == "tags":
            value = sorted(value)
        if value not in ({}, []):
            cleaned[key] = value
    return cleaned


left = st.fixed_dictionaries({}, optional={"size": st.integers(1, 3), "labels": st.dictionaries(names, names)})
right = st.fixed_dictionaries({}, optional={"mode": names, "parts": parts, "tags": st.lists(names, unique=True)})


@settings(max_examples=200, deadline=None)
@given(left, right, left, right)
def test_managers_of_disjoint_fields_never_conflict(a1: Json, b1: Json, a2: Json, b2: Json) -> None:
    live: Json | None = None
    for manager, spec in (("one", a1), ("two", b1), ("one", a2), ("two", b2)):
        live = applied(live, widget(spec=spec) if spec else widget(), manager)
    assert live is not None
    assert normal(live.get("spec", {})) == normal({**a2, **b2})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["size", "parts", "tags", "name", "labels", "free", "x.y/z"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(["spec", "status", "metadata", "x"]), json_values, max_size=4)


@settings(max_examples=300, deadline=None)
@given(bodies, bodies)
def test_only_status_errors_leave(live: Json, body: Json) -> None:
    stored = {**live, "metadata": {"name": "a"}}
    for call in (lambda: applied(stored, body), lambda: tracked(stored, {**body, "metadata": {"name": "a"}})):
        try:
            call()
        except StatusError as refused:
            assert 400 <= refused.code < 500
