"""Custom resources and their definitions."""

from __future__ import annotations

from tests.local.apiserver.requests.asks import (
    APPLY,
    CRDS,
    MERGE,
    STRATEGIC,
    WIDGET_CRD,
    WIDGETS,
    Ask,
    delete,
    get,
    patch,
    post,
    put,
    widget,
)

SCENARIOS: dict[str, list[Ask]] = {
    "custom-resources": [
        post(WIDGETS, widget(size=5), want={"spec.size": 5, "metadata.generation": 1}),
        post(WIDGETS, widget("two"), want={"spec.size": 3}),
        post(
            WIDGETS,
            widget("bad", size=11),
            422,
            want={"reason": "Invalid", "details.causes.0.field": "spec.size", "details.kind": "Widget"},
        ),
        post(
            WIDGETS,
            widget("bad", color="green"),
            422,
            want={"details.causes.0.field": "spec.color", "details.causes.0.reason": "FieldValueNotSupported"},
        ),
        post(WIDGETS, widget("bad", size="x"), 422, want={"details.causes.0.reason": "FieldValueTypeInvalid"}),
        post(WIDGETS, widget("bad", min=5, max=1), 422, want={"details.causes.0.field": "spec"}),
        post(WIDGETS, widget("three", unknown=1, any={"x": {"y": 1}}), want={"spec.unknown": None, "spec.any.x.y": 1}),
        post(
            f"{WIDGETS}?fieldValidation=Strict",
            widget("bad", unknown=1),
            400,
            want={
                "message": 'Widget in version "v1" cannot be handled as a Widget: '
                'strict decoding error: unknown field "spec.unknown"'
            },
        ),
        patch(MERGE, f"{WIDGETS}/one", {"spec": {"size": 6}}, want={"spec.size": 6, "metadata.generation": 2}),
        patch(STRATEGIC, f"{WIDGETS}/one", {"spec": {"size": 6}}, 415, want={"reason": "UnsupportedMediaType"}),
        patch(MERGE, f"{WIDGETS}/one", {"spec": {"fixed": "a"}}, want={"spec.fixed": "a"}),
        patch(MERGE, f"{WIDGETS}/one", {"spec": {"fixed": "b"}}, 422, want={"details.causes.0.field": "spec.fixed"}),
        put(f"{WIDGETS}/one", widget(size=1), 422, want={"details.causes.0.field": "metadata.resourceVersion"}),
        patch(
            MERGE,
            f"{WIDGETS}/one/status",
            {"status": {"phase": "Up"}, "spec": {"size": 9}},
            want={"status.phase": "Up", "spec.size": 6, "metadata.generation": 3},
        ),
        patch(MERGE, f"{WIDGETS}/one", {"status": {"phase": "Down"}}, want={"status.phase": "Up"}),
        patch(MERGE, f"{WIDGETS}/one/scale", {"spec": {"replicas": 3}}, want={"kind": "Scale", "spec.replicas": 3}),
        get(f"{WIDGETS}/one", want={"spec.replicas": 3}),
        get(
            "/apis/example.com/v1beta1/namespaces/{ns}/widgets/one",
            want={"apiVersion": "example.com/v1beta1", "spec.size": 6},
        ),
        get(
            WIDGETS,
            accept="application/json;as=Table;v=v1;g=meta.k8s.io",
            want={"columnDefinitions.1.name": "Size", "rows.0.cells.1": 6},
        ),
        patch(APPLY, f"{WIDGETS}/one?fieldManager=a&force=true", widget(size=7), want={"spec.size": 7}),
        delete(f"{WIDGETS}/two", want={"status": "Success", "details.kind": "widgets"}),
        get("/apis/example.com/v1", want={"resources.0.name": "widgets", "resources.0.shortNames": ["wd"]}),
    ],
    "bad-crds": [
        post(CRDS, {**WIDGET_CRD, "metadata": {"name": "wrong.example.com"}}, 422, want={"reason": "Invalid"}),
        get(
            f"{CRDS}/widgets.example.com",
            want={
                "status.conditions.1.type": "Established",
                "status.storedVersions": ["v1"],
                "status.acceptedNames.kind": "Widget",
            },
            differs=("metadata.managedFields",),
        ),
    ],
}
