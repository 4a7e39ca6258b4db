"""A custom kind with most of what a structural schema can say: what it refuses, and in which words."""

from __future__ import annotations

from typing import Any

from tests.local.apiserver.requests.asks import APPLY, CRDS, JSON_PATCH, MERGE, WORDS, Ask, Json, get, patch, post, put

GADGETS = "/apis/gadgets.example/v1/namespaces/{ns}/gadgets"
PART = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
}
SPEC: Json = {
    "type": "object",
    "required": ["kind"],
    "properties": {
        "kind": {"type": "string", "minLength": 2, "maxLength": 8, "pattern": "^[a-z]+$"},
        "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1},
        "step": {"type": "integer", "multipleOf": 5, "format": "int32"},
        "big": {"type": "integer", "format": "int64"},
        "flag": {"type": "boolean"},
        "port": {"x-kubernetes-int-or-string": True},
        "maybe": {"type": "string", "nullable": True},
        "when": {"type": "string", "format": "date-time"},
        "blob": {"type": "string", "format": "byte"},
        "tags": {
            "type": "array",
            "items": {"type": "string", "maxLength": 9},
            "maxItems": 3,
            "x-kubernetes-list-type": "set",
        },
        "parts": {
            "type": "array",
            "items": PART,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
        "atom": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            "x-kubernetes-map-type": "atomic",
        },
        "nested": {
            "type": "object",
            "default": {},
            "properties": {"level": {"type": "string", "default": "low", "enum": ["low", "high"]}},
        },
        "template": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
        "choice": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
    },
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.step) || self.step < 100",
            "message": "too far",
            "fieldPath": ".step",
            "reason": "FieldValueForbidden",
        },
        {
            "rule": "!has(self.tags) || self.tags.all(t, t.size() > 1)",
            "messageExpression": "'all tags of ' + self.kind + ' need two letters'",
        },
        {"rule": "!has(oldSelf.flag) || has(self.flag)", "message": "flag stays"},
    ],
}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.gadgets.example"},
    "spec": {
        "group": "gadgets.example",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "categories": ["all"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": SPEC}}},
                "selectableFields": [{"jsonPath": ".spec.kind"}],
                "additionalPrinterColumns": [
                    {"name": "Kind", "type": "string", "jsonPath": ".spec.kind"},
                    {"name": "Parts", "type": "string", "jsonPath": ".spec.parts[*].name", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
            }
        ],
    },
}


FIRST_CAUSE = ("details.causes", "message")


def gadget(name: str = "one", **spec: Any) -> Json:
    body = {"kind": "abc", **spec}
    return {"apiVersion": "gadgets.example/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": body}


def refused_definition(name: str, *differs: str, **changes: Any) -> Ask:
    return post(CRDS, definition(name, **changes), 422, differs=(*differs, *WORDS))


def refused(**spec: Any) -> Ask:
    return post(GADGETS, gadget("bad", **spec), 422)


def definition(name: str, **changes: Any) -> Json:
    """The CRD under another name, with parts of its spec changed; `schema` is its version's."""
    schema = changes.pop("schema", {"type": "object"})
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": name, "singular": name, "kind": name.title()}
    spec: Json = {"group": "bad.example", "scope": "Namespaced", "names": names, "versions": [version], **changes}
    return {**CRD, "metadata": {"name": f"{name}.bad.example"}, "spec": spec}


SCENARIOS: dict[str, list[Ask]] = {
    "gadget-refusals": [
        post(GADGETS, {**gadget(), "spec": {}}, 422),
        post(GADGETS, {"apiVersion": "gadgets.example/v1", "kind": "Gadget", "metadata": {"name": "bad"}}, 422),
        post(GADGETS, {**gadget(), "spec": "text"}, 422),
        post(GADGETS, {**gadget(), "spec": None}, 422),
        refused(kind="a"),
        refused(kind="toolongaword"),
        refused(kind="ABC"),
        refused(kind=7),
        refused(kind=None),
        refused(ratio=0),
        refused(ratio=1.5),
        refused(ratio="half"),
        refused(step=7),
        refused(step=2**40),
        refused(step=200),
        post(GADGETS, gadget("bad", step=1.5), 422, differs=FIRST_CAUSE),  # in the words of Go's types
        refused(flag="yes"),
        refused(port=True),
        refused(when="yesterday"),
        refused(blob="***"),
        refused(tags=["aa", "bb", "cc", "dd"]),
        refused(tags=["aa", "aa"]),
        refused(tags=["a", "bb"]),
        refused(parts=[{"name": "a"}, {"name": "a"}]),
        refused(parts=[{"count": 1}]),
        refused(labels={"a": "1", "b": "2", "c": "3"}),
        refused(labels={"a": 1}),
        refused(nested={"level": "none"}),
        refused(template={"kind": "Pod"}),
        post(
            GADGETS, gadget("bad", choice={}), 422, differs=FIRST_CAUSE
        ),  # a real server also tells the nearest way out
        refused(choice={"a": "1", "b": "2"}),
        refused(kind="A", step=7, ratio=3),
    ],
    "gadget-life": [
        post(
            GADGETS,
            gadget(
                port="http",
                maybe=None,
                parts=[{"name": "a"}],
                big=2**53,
                unknown=1,
                template={"apiVersion": "v1", "kind": "X", "more": 1},
            ),
        ),
        get(f"{GADGETS}/one", want={"spec.nested.level": "low", "spec.parts.0.count": 1}),
        get(f"{GADGETS}?fieldSelector=spec.kind%3Dabc", want={"items.0.metadata.name": "one"}),
        get(f"{GADGETS}?fieldSelector=spec.port%3D1", 400),
        get(GADGETS, accept="application/json;as=Table;v=v1;g=meta.k8s.io", want={"rows.0.cells.1": "abc"}),
        patch(MERGE, f"{GADGETS}/one", {"spec": {"flag": True, "port": 80}}),
        patch(MERGE, f"{GADGETS}/one", {"spec": {"flag": None}}, 422),
        patch(MERGE, f"{GADGETS}/one", {"spec": {"parts": [{"name": "b"}], "atom": {"x": 1}}}),
        patch(JSON_PATCH, f"{GADGETS}/one", [{"op": "add", "path": "/spec/tags", "value": ["aa"]}]),
        patch(APPLY, f"{GADGETS}/one?fieldManager=m", gadget(parts=[{"name": "c", "count": 2}], atom={"y": 2}), 409),
        patch(
            APPLY, f"{GADGETS}/one?fieldManager=m&force=true", gadget(parts=[{"name": "c", "count": 2}], atom={"y": 2})
        ),
        patch(APPLY, f"{GADGETS}/one?fieldManager=m", gadget(tags=["zz"])),
        patch(
            APPLY,
            f"{GADGETS}/one?fieldManager=m",
            gadget(parts=[{"name": "d"}, {"name": "d"}]),
            400,
            real_code=500,
            differs=("code", "reason", "details", *WORDS),
        ),
        patch(
            APPLY,
            f"{GADGETS}/one?fieldManager=m",
            gadget(nothing=1),
            400,
            real_code=500,
            differs=("code", "reason", "details", *WORDS),
        ),
        get(f"{GADGETS}/one", keep={"version": "metadata.resourceVersion"}),
        put(f"{GADGETS}/one", {**gadget(flag=False), "metadata": {"name": "one", "resourceVersion": "{version}"}}),
        put(f"{GADGETS}/one", {**gadget(flag=False), "metadata": {"name": "one", "resourceVersion": "{version}"}}, 409),
        patch(MERGE, f"{GADGETS}/one/status", {"status": {}}, 404),
        patch(MERGE, f"{GADGETS}/one", {"kind": "Widget"}, 422),
    ],
    "bad-definitions": [
        refused_definition("nostorage", "details.causes", versions=[{**CRD["spec"]["versions"][0], "storage": False}]),
        post(CRDS, definition("noschema", versions=[{"name": "v1", "served": True, "storage": True}]), 422),
        post(CRDS, definition("notype", schema={"properties": {"spec": {"type": "object"}}}), 422),
        post(CRDS, definition("innertype", schema={"type": "object", "properties": {"spec": {}}}), 422),
        post(CRDS, definition("badscope", scope="Everywhere"), 422),
        refused_definition("badgroup", "details.causes", group="Bad_Group"),
        refused_definition("badversion", "details.causes", versions=[{**CRD["spec"]["versions"][0], "name": "V_1"}]),
        post(
            CRDS,
            definition(
                "baddefault", schema={"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}
            ),
            422,
        ),
        post(
            CRDS,
            definition(
                "badkeys",
                schema={
                    "type": "object",
                    "properties": {
                        "a": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                        }
                    },
                },
            ),
            422,
        ),
        post(CRDS, {**definition("wrongname"), "metadata": {"name": "other.bad.example"}}, 422),
    ],
}
