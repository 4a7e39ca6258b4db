"""Facts of Kubernetes that are easy to get almost right: who owns which path, and how a rule's failure reads."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.local.machinery.apply import apply, track
from kaito.local.machinery.schema import Schema

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
FIELDS: Json = {
    "size": {"type": "integer"},
    "small": {"type": "integer", "format": "int32"},
    "map": {"type": "object", "additionalProperties": TEXT},
    "maps": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": TEXT, "b": TEXT}}},
    "struct": {"type": "object", "properties": {"a": TEXT, "b": TEXT}},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "embedded": {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "x-kubernetes-preserve-unknown-fields": True,
    },
    "parts": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "required": ["name"], "properties": {"name": TEXT, "v": TEXT}},
    },
    "either": {
        "type": "object",
        "properties": {"a": TEXT, "b": TEXT},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "filled": {"type": "string", "default": "d"},
}


def schema_of(fields: Json) -> Schema:
    return Schema({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}})


SCHEMA = schema_of(FIELDS)


def thing(**spec: Any) -> Json:
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": spec}


def applied(live: Json | None, config: Json, manager: str, *, force: bool = False) -> Json:
    return apply(
        live, config, manager=manager, force=force, schema=SCHEMA, api_version="example.com/v1", subresource="", now="T"
    )


def updated(before: Json | None, after: Json, manager: str = "editor", now: str = "T") -> Json:
    return track(before, after, manager=manager, schema=SCHEMA, api_version="example.com/v1", subresource="", now=now)


def fields(obj: Json) -> dict[str, Json]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", ())}


@pytest.mark.parametrize(
    ("spec", "owned"),
    [
        pytest.param({"struct": {"a": "1"}}, {"f:struct": {"f:a": {}}}, id="a struct is no member"),
        pytest.param({"map": {"k": "1"}}, {"f:map": {"f:k": {}}}, id="nor is a map"),
        pytest.param({"maps": {"k": {"a": "1"}}}, {"f:maps": {"f:k": {".": {}, "f:a": {}}}}, id="its values are"),
        pytest.param({"free": {"d": {"e": 1}}}, {"f:free": {"f:d": {".": {}, "f:e": {}}}}, id="unknown fields are"),
        pytest.param({"map": {}}, {"f:map": {}}, id="an empty map"),
        pytest.param({"size": 1, "parts": []}, {"f:size": {}}, id="an empty list with keys is nobody's"),
        pytest.param(
            {"parts": [{"name": "x"}]}, {"f:parts": {'k:{"name":"x"}': {".": {}, "f:name": {}}}}, id="elements are"
        ),
    ],
)
def test_what_an_apply_owns(spec: Json, owned: Json) -> None:
    assert fields(applied(None, thing(**spec), "a")) == {"a": {"f:spec": owned}}


@pytest.mark.parametrize(
    ("spec", "owned"),
    [
        pytest.param({"struct": {"a": "1"}}, {".": {}, "f:struct": {".": {}, "f:a": {}}}, id="a struct is a member"),
        pytest.param({"map": {"k": "1"}}, {".": {}, "f:map": {".": {}, "f:k": {}}}, id="a map is"),
        pytest.param({"parts": []}, {".": {}, "f:parts": {}}, id="an empty list with keys is"),
    ],
)
def test_what_a_create_owns(spec: Json, owned: Json) -> None:
    assert fields(updated(None, thing(**spec))) == {"editor": {"f:spec": owned}}


def test_metadata_itself_is_nobodys() -> None:
    live = updated(None, thing(size=1))
    labelled = {**live, "metadata": {**live["metadata"], "labels": {"a": "b"}}}
    owned = fields(updated(live, labelled, "labeller"))["labeller"]
    assert owned == {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}


def test_what_nobody_owns_goes_with_its_parent_defaults_included() -> None:
    live = applied(None, thing(size=1), "a")
    live["spec"]["filled"] = "d"
    left = applied(live, {key: value for key, value in thing().items() if key != "spec"}, "a")
    assert "spec" not in left
    assert fields(left) == {}


def test_an_update_that_removes_a_field_takes_it_from_its_applier() -> None:
    live = applied(None, thing(size=1, map={"k": "1"}), "a")
    after = {**live, "spec": {"size": 1}}
    assert fields(updated(live, after)) == {"a": {"f:spec": {"f:size": {}}}}


def test_the_eleventh_updater_folds_the_oldest() -> None:
    live = updated(None, thing(map={"m0": "1"}), "m0", now="T00")
    for number in range(1, 14):
        after = {**live, "spec": {"map": {**live["spec"]["map"], f"m{number}": "1"}}}
        live = updated(live, after, f"m{number}", now=f"T{number:02}")
    owners = fields(live)
    assert len(owners) == 10
    assert set(owners["ancient-changes"]["f:spec"]["f:map"]) == {".", *(f"f:m{number}" for number in range(5))}
    assert "m4" not in owners
    assert "m5" in owners


def test_who_gave_up_ownership_is_tracked_again_from_the_next_apply_on() -> None:
    live = updated(None, thing(size=1))
    freed = updated(live, {**live, "metadata": {**live["metadata"], "managedFields": []}})
    assert fields(freed) == {}
    assert fields(updated(freed, {**freed, "spec": {"size": 2}})) == {}
    taken = applied(freed, thing(size=3), "a", force=True)
    assert set(fields(taken)) == {"a", "before-first-apply"}


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        pytest.param(
            {"small": 2**31},
            ("<nil>", 'Invalid value: "": Checked value must be of type integer with format int32 in spec.small'),
            id="int32",
        ),
        pytest.param(
            {"size": 2**63},
            ("spec.size", 'Invalid value: "number": spec.size in body must be of type integer: "number"'),
            id="int64",
        ),
        pytest.param({"embedded": {"kind": "X"}}, ("spec.embedded.apiVersion", "Required value"), id="embedded"),
        pytest.param(
            {"either": {"a": "1", "b": "2"}},
            (
                "<nil>",
                'Invalid value: "": "spec.either" must validate one and only one schema (oneOf). '
                "Found 2 valid alternatives",
            ),
            id="one of",
        ),
    ],
)
def test_shapes(spec: Json, cause: tuple[str, str]) -> None:
    assert [(found.field, found.message) for found in SCHEMA.validate(thing(**spec))] == [cause]


@pytest.mark.parametrize("size", [-(2**31), 0, 2**31 - 1])
def test_integers_in_range(size: int) -> None:
    assert SCHEMA.validate(thing(small=size)) == []


def verdict(field: Json, value: Any, old: Any = None, **rule: Any) -> list[str]:
    schema = schema_of({"x": {**field, "x-kubernetes-validations": [rule]}})
    return [cause.message for cause in schema.rules(thing(x=value), thing(x=old) if old is not None else None)]


OBJECT: Json = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("field", "value", "rule", "message"),
    [
        (TEXT, "bad", "self != 'bad'", "Invalid value: \"bad\": failed rule: self != 'bad'"),
        ({"type": "boolean"}, False, "self", "Invalid value: false: failed rule: self"),
        (OBJECT, {"a": 1}, "self.a > 1", "Invalid value: failed rule: self.a > 1"),
        (
            {"type": "integer"},
            0,
            "10/self > 1",
            'Invalid value: "integer": division by zero evaluating rule: 10/self > 1',
        ),
    ],
    ids=["text", "boolean", "object", "error"],
)
def test_words_of_a_failed_rule(field: Json, value: Any, rule: str, message: str) -> None:
    assert verdict(field, value, rule=rule) == [message]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ({**TEXT, "format": "date-time"}, "2021-01-01T00:00:00Z", "self > timestamp('2020-01-01T00:00:00Z')"),
        ({**TEXT, "format": "date-time"}, "2021-01-01T00:00:00Z", "self.getFullYear() == 2021"),
        ({**TEXT, "format": "duration"}, "1m10s", "self < duration('1h') && self.getSeconds() == 70"),
        (TEXT, "127.0.0.1", "ip(self).isLoopback() && ip(self).family() == 4"),
        (TEXT, "10.1.2.3", "!ip(self).isLoopback() && ip(self).isGlobalUnicast()"),
        (TEXT, "169.254.1.1", "ip(self).isLinkLocalUnicast()"),
        (TEXT, "10.0.0.0/24", "cidr(self).ip().family() == 4 && cidr(self).prefixLength() == 24"),
        (TEXT, "1.2.3", "isSemver(self) && semver(self).major() == 1"),
        (TEXT, "1.2.3", "semver(self).isLessThan(semver('1.10.0'))"),
        (TEXT, "1.0.0-rc.1", "semver(self).compareTo(semver('1.0.0')) == -1"),
        (TEXT, "v1", "!isSemver(self)"),
    ],
)
def test_rules_that_hold(field: Json, value: str, rule: str) -> None:
    assert verdict(field, value, rule=rule) == []


def test_an_optional_old_value_runs_the_rule_on_creates_too() -> None:
    rule: Json = {"rule": "oldSelf.hasValue() || self == 'start'", "optionalOldSelf": True, "message": "starts"}
    assert verdict(TEXT, "later", **rule) == ['Invalid value: "later": starts']
    assert verdict(TEXT, "start", **rule) == []
    assert verdict(TEXT, "later", "start", **rule) == []
