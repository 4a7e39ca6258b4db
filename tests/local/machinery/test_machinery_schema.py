"""Pruning, defaulting, validation and CEL rules."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.api.crds import node_claim_crd, workspace_crd
from kaito.local.machinery.kinds import from_crd
from kaito.local.machinery.schema import Schema
from tests.local.machinery.builders import KINDS, deployment, kind, schema

Json = dict[str, Any]


def spec(**fields: Any) -> Json:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"size": 1, **fields}}


@pytest.mark.parametrize(
    ("obj", "dropped"),
    [
        pytest.param(spec(sise=3), ["spec.sise"], id="a typing error"),
        pytest.param(spec(parts=[{"name": "a", "x": 1}]), ["spec.parts[0].x"], id="in a list"),
        pytest.param(spec(free={"x": {"y": 1}}), [], id="preserved"),
        pytest.param(spec(labels={"any": "thing"}), [], id="additional properties"),
        pytest.param(spec(template={"apiVersion": "v1", "kind": "X", "z": 1}), ["spec.template.z"], id="embedded"),
        pytest.param({**spec(), "extra": 1}, ["extra"], id="at the root"),
        pytest.param({**spec(), "metadata": {"name": "a", "lables": {}}}, ["metadata.lables"], id="in metadata"),
    ],
)
def test_prune(obj: Json, dropped: list[str]) -> None:
    pruned = copy.deepcopy(obj)
    assert schema().prune(pruned) == dropped
    assert schema().prune(pruned) == []


def test_default_fills_in_and_keeps_what_is_there() -> None:
    obj = spec(mode="fast", parts=[{"name": "a"}, {"name": "b", "weight": 4}])
    schema().default(obj)
    assert obj["spec"] == {
        "size": 1,
        "mode": "fast",
        "parts": [{"name": "a", "weight": 1}, {"name": "b", "weight": 4}],
    }


def test_default_replaces_nulls_that_the_schema_forbids() -> None:
    obj = spec(mode=None, name=None, note=None)
    schema().default(obj)
    assert obj["spec"] == {"size": 1, "mode": "slow", "note": None}


def test_defaults_are_not_shared_between_objects() -> None:
    with_default = schema(free={"type": "object", "default": {"a": {}}, "x-kubernetes-preserve-unknown-fields": True})
    one, other = spec(), spec()
    with_default.default(one)
    with_default.default(other)
    one["spec"]["free"]["a"]["changed"] = True
    assert other["spec"]["free"] == {"a": {}}


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        pytest.param(
            {"size": "x"},
            'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"',
            id="type",
        ),
        pytest.param({"mode": "x"}, 'spec.mode: Unsupported value: "x": supported values: "fast", "slow"', id="enum"),
        pytest.param(
            {"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1", id="min"
        ),
        pytest.param(
            {"size": 10}, "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9", id="max"
        ),
        pytest.param(
            {"name": "a"},
            'spec.name: Invalid value: "a": spec.name in body should be at least 2 chars long',
            id="too short",
        ),
        pytest.param({"name": "abcdef"}, "spec.name: Too long: may not be more than 5 bytes", id="too long"),
        pytest.param(
            {"name": "A1"}, "spec.name: Invalid value: \"A1\": spec.name in body should match '^[a-z]+$'", id="pattern"
        ),
        pytest.param(
            {"when": "noon"},
            'spec.when: Invalid value: "noon": spec.when in body must be of type date-time: "noon"',
            id="format",
        ),
        pytest.param({"plain": [1, 2, 3, 4]}, "spec.plain: Too many: 4: must have at most 3 items", id="too many"),
        pytest.param(
            {"plain": [1, "x"]},
            'spec.plain[1]: Invalid value: "string": spec.plain[1] in body must be of type integer: "string"',
            id="list element",
        ),
        pytest.param(
            {"port": {}},
            'spec.port: Invalid value: "object": spec.port in body must be of type integer,string: "object"',
            id="int or string",
        ),
        pytest.param({"parts": [{"weight": 1}]}, "spec.parts[0].name: Required value", id="required"),
        pytest.param(
            {"parts": [{"name": "a"}, {"name": "a"}]}, 'spec.parts[1]: Duplicate value: {"name":"a"}', id="list map"
        ),
        pytest.param({"tags": ["a", "b", "a"]}, 'spec.tags[2]: Duplicate value: "a"', id="set"),
    ],
)
def test_validate(fields: Json, cause: str) -> None:
    assert [str(found) for found in schema().validate(spec(**fields))] == [cause]


@pytest.mark.parametrize(
    "fields",
    [
        {"port": 80},
        {"port": "http"},
        {"note": None},
        {"when": "2026-01-02T03:04:05Z"},
        {"free": {"anything": [1, None]}},
        {"tags": ["a", "b"]},
    ],
    ids=str,
)
def test_validate_accepts(fields: Json) -> None:
    assert schema().validate(spec(**fields)) == []


def test_builtin_kinds_accept_a_common_manifest() -> None:
    obj = deployment()
    shape = kind("Deployment", "apps").schema
    assert shape.prune(obj) == []
    shape.default(obj)
    assert shape.validate(obj) == []
    pod = obj["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Always"
    assert pod["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


def test_builtin_status_may_be_partial() -> None:
    pod = {"metadata": {"name": "a"}, "status": {"containerStatuses": [{"name": "c", "restartCount": 1}]}}
    assert kind("Pod").schema.validate(pod) == []


@pytest.mark.parametrize("info", KINDS.values(), ids=lambda info: f"{info.group}/{info.kind}")
def test_every_builtin_schema_compiles(info: Any) -> None:
    obj = {"apiVersion": info.api_version, "kind": info.kind, "metadata": {"name": "a"}}
    assert info.schema.prune(obj) == []
    info.schema.default(obj)
    assert all(cause.message == "Required value" for cause in info.schema.validate(obj))


# --- CEL
# ---------------------------------------------------------------------------------------------------------------


def ruled(rule: str, **more: Any) -> Schema:
    return schema(size={"type": "integer", "x-kubernetes-validations": [{"rule": rule, **more}]})


def test_rule_that_holds() -> None:
    assert ruled("self > 0").rules(spec()) == []


@pytest.mark.parametrize(
    ("rule", "more", "text", "reason"),
    [
        ("self > 5", {"message": "too small"}, "spec.size: Invalid value: 1: too small", "FieldValueInvalid"),
        ("self > 5", {}, "spec.size: Invalid value: 1: failed rule: self > 5", "FieldValueInvalid"),
        (
            "self > 5",
            {"messageExpression": "'got ' + string(self)"},
            "spec.size: Invalid value: 1: got 1",
            "FieldValueInvalid",
        ),
        (
            "self > 5",
            {"message": "no", "reason": "FieldValueForbidden"},
            "spec.size: Forbidden: no",
            "FieldValueForbidden",
        ),
        (
            "self > 5",
            {"message": "no", "reason": "FieldValueRequired", "fieldPath": ".inner"},
            "spec.size.inner: Required value: no",
            "FieldValueRequired",
        ),
    ],
    ids=["message", "default message", "message expression", "reason", "field path"],
)
def test_rule_that_fails(rule: str, more: Json, text: str, reason: str) -> None:
    (cause,) = ruled(rule, **more).rules(spec())
    assert (str(cause), cause.reason) == (text, reason)


def test_transition_rule_runs_only_on_updates() -> None:
    shape = ruled("self == oldSelf", message="immutable")
    assert shape.rules(spec()) == []
    assert shape.rules(spec(), spec()) == []
    assert [str(cause) for cause in shape.rules(spec(size=2), spec())] == ["spec.size: Invalid value: 2: immutable"]


def test_transition_rule_matches_list_elements_by_key() -> None:
    items = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "weight": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.weight >= oldSelf.weight", "message": "may not shrink"}],
    }
    parts = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": items}
    shape = schema(parts=parts)
    old = spec(parts=[{"name": "a", "weight": 1}, {"name": "b", "weight": 5}])
    new = spec(parts=[{"name": "b", "weight": 4}, {"name": "c", "weight": 0}, {"name": "a", "weight": 2}])
    assert [cause.field for cause in shape.rules(new, old)] == ["spec.parts[0]"]


def test_rule_that_meets_a_missing_key_says_so() -> None:
    shape = schema(free={"type": "object", "x-kubernetes-validations": [{"rule": "self.missing == 1"}]})
    (cause,) = shape.rules(spec(free={"a": 1}))
    assert "no such key: missing evaluating rule: self.missing == 1" in cause.message


def test_rules_read_names_that_cel_cannot_write() -> None:
    inner = {"namespace": {"type": "string"}, "retry-limit": {"type": "integer"}, "a/b.c": {"type": "integer"}}
    rule = {"rule": "self.__namespace__ == 'x' && self.retry__dash__limit == 3 && self.a__slash__b__dot__c == 1"}
    shape = schema(free={"type": "object", "properties": inner, "x-kubernetes-validations": [rule]})
    assert shape.rules(spec(free={"namespace": "x", "retry-limit": 3, "a/b.c": 1})) == []
    assert len(shape.rules(spec(free={"namespace": "x", "retry-limit": 4, "a/b.c": 1}))) == 1


@pytest.mark.parametrize(
    "rule",
    [
        "quantity('1.5Gi').isGreaterThan(quantity('1Gi'))",
        "quantity('1000m') == quantity('1')",
        "quantity('2').add(quantity('500m')).compareTo(quantity('2.5')) == 0",
        "isQuantity('3Mi') && !isQuantity('three')",
        "'abc123'.find('[0-9]+') == '123'",
        "'a1b22'.findAll('[0-9]+') == ['1', '22']",
        "[1, 2, 3].isSorted() && [1, 2, 3].sum() == 6 && [3, 1].min() == 1",
        "'a,b'.split(',').size() == 2",
        "['a', 'b'].join('-') == 'a-b'",
        "'AbC'.lowerAscii() == 'abc'",
        "url('https://example.com:8443/a?b=c').getHostname() == 'example.com'",
        "isURL('https://example.com') && !isURL('../up')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
        "isIP('10.0.0.1') && ip('::1').family() == 6",
        "[1, 2].indexOf(2) == 1 && 'abc'.indexOf('c') == 2",
        "sets.contains(['a', 'b'], ['a'])",
        "duration('90s') > duration('1m')",
    ],
)
def test_kubernetes_functions(rule: str) -> None:
    assert ruled(rule).rules(spec()) == []


def workspace(**changes: Any) -> Json:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "ws", "namespace": "default"},
        "resource": {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"apps": "x"}}},
        "inference": {"preset": {"name": "tiny"}},
        **changes,
    }


def test_workspace_rules() -> None:
    shape = next(info for info in from_crd(workspace_crd()) if info.version == "v1beta1").schema
    assert shape.rules(workspace()) == []
    assert shape.rules(workspace(), workspace()) == []
    neither = workspace()
    del neither["inference"]
    assert [cause.message for cause in shape.rules(neither)] == [
        "Invalid value: one of inference and tuning has to be given"
    ]
    renamed = workspace(inference={"preset": {"name": "other"}})
    assert [cause.field for cause in shape.rules(renamed, workspace())] == ["inference.preset"]


def test_node_claim_spec_is_immutable() -> None:
    shape = next(info for info in from_crd(node_claim_crd()) if info.version == "v1").schema
    claim = {"metadata": {"name": "a"}, "spec": {"requirements": [], "nodeClassRef": {"name": "d"}}}
    changed = {"metadata": {"name": "a"}, "spec": {"requirements": [], "nodeClassRef": {"name": "e"}}}
    assert shape.rules(claim, claim) == []
    assert len(shape.rules(changed, claim)) == 1


# --- laws
# --------------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 12) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["size", "mode", "parts", "name", "weight", "free", "tags", "template", "data", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(["spec", "status", "metadata", "x"]), json_values, max_size=4)
SHAPE = schema()


@settings(deadline=None)
@given(objects)
def test_prune_and_default_are_idempotent_and_nothing_raises(obj: Json) -> None:
    SHAPE.prune(obj)
    once = copy.deepcopy(obj)
    assert SHAPE.prune(once) == []
    SHAPE.default(once)
    twice = copy.deepcopy(once)
    SHAPE.default(twice)
    assert twice == once
    SHAPE.validate(once)
    SHAPE.rules(once, obj)
