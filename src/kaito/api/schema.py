"""Small words for writing structural OpenAPI schemas, as CustomResourceDefinitions want them.

Used by `crds` alone. Each function returns a fresh dict, so that a caller may add to it.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def text(description: str = "", **more: Any) -> Schema:
    return _described({"type": "string", **more}, description)


def integer(description: str = "", **more: Any) -> Schema:
    return _described({"type": "integer", **more}, description)


def boolean(description: str = "") -> Schema:
    return _described({"type": "boolean"}, description)


def array(items: Schema, description: str = "", **more: Any) -> Schema:
    return _described({"type": "array", "items": items, **more}, description)


def mapping(values: Schema, description: str = "", **more: Any) -> Schema:
    return _described({"type": "object", "additionalProperties": values, **more}, description)


def record(properties: dict[str, Schema], description: str = "", *, required: tuple[str, ...] = ()) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return _described(schema, description)


def free_form(description: str = "", properties: dict[str, Schema] | None = None) -> Schema:
    """An object whose further fields are kept as they came."""
    schema: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if properties:
        schema["properties"] = properties
    return _described(schema, description)


def quantity() -> Schema:
    """A resource quantity: a number or text such as `120Gi`."""
    return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}


def rule(expression: str, message: str) -> Schema:
    """One CEL rule, for `x-kubernetes-validations`."""
    return {"rule": expression, "message": message}


def with_rules(schema: Schema, *rules: Schema) -> Schema:
    return {**schema, "x-kubernetes-validations": list(rules)}


def conditions() -> Schema:
    """`status.conditions`: a list keyed by type. Machine v1alpha5 adds `severity`, so it is allowed everywhere."""
    item = record(
        {
            "type": text("What is judged."),
            "status": text("True is well.", enum=["True", "False", "Unknown"]),
            "reason": text("One word that programs may match."),
            "message": text("What is wrong, and what to do next."),
            "severity": text("Of Machines alone."),
            "lastTransitionTime": text("When the status last changed.", format="date-time"),
            "observedGeneration": integer("Of which generation of the object this was said.", format="int64"),
        },
        "One verdict.",
        required=("type", "status"),
    )
    listed = array(item, "The verdicts; the root ones are WorkspaceReady and WorkspaceSucceeded, on claims Ready.")
    return {**listed, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def _described(schema: Schema, description: str) -> Schema:
    if description:
        schema["description"] = description
    return schema


def column(name: str, path: str, type_: str = "string", *, wide: bool = False) -> Schema:
    """A printer column; a wide one shows with `kubectl get -o wide`."""
    spec: Schema = {"name": name, "type": type_, "jsonPath": path}
    if wide:
        spec["priority"] = 1
    return spec


def condition_column(name: str, condition: str = "", *, wide: bool = False) -> Schema:
    return column(name, f'.status.conditions[?(@.type=="{condition or name}")].status', wide=wide)


def version(name: str, schema: Schema, columns: list[Schema], *, storage: bool) -> Schema:
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }


def crd(group: str, names: Schema, scope: str, versions: list[Schema]) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{group}"},
        "spec": {
            "group": group,
            "names": names,
            "scope": scope,
            "versions": versions,
            "conversion": {"strategy": "None"},
        },
    }


def root(properties: dict[str, Schema], description: str, *, required: tuple[str, ...] = ()) -> Schema:
    """The schema of a whole object; metadata is checked by the API server itself."""
    standard = {"apiVersion": text(), "kind": text(), "metadata": {"type": "object"}}
    return record({**standard, **properties}, description, required=required)
