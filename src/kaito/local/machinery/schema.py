"""A kind's schema, compiled: what the API server asks of it, in the order in which a request passes through.

`prune` drops what the schema does not know, `default` fills in, `validate` checks the shape, `rules` evaluates the CEL
rules. Each part is compiled when it is first used, because most of a server's kinds are never written to.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import jsonschema_rs

from kaito.local.machinery import builtin_schemas, structure, validation
from kaito.local.machinery.errors import BLOCKING, FieldCause
from kaito.local.machinery.nodes import ANY, Compiler, Node
from kaito.local.machinery.quantity_fields import QuantityFields
from kaito.local.machinery.rules import RuleSet

Json = dict[str, Any]

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LOCK = threading.RLock()


RULES_NOT_CHECKED = FieldCause(
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation",
)


def has_blocking(causes: list[FieldCause]) -> bool:
    """Whether the object is so wrong that its rules cannot be asked."""
    return any(cause.reason in BLOCKING for cause in causes)


class Schema:
    """The OpenAPI v3 schema of one version of one kind. Safe to use from several threads."""

    def __init__(self, raw: Json | None, *, builtin: bool = False) -> None:
        """`raw` is the schema of the whole object, None where anything goes.

        Built-in ones refer to shared definitions.
        """
        self.raw: Json = raw if raw is not None else {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        self.builtin = builtin

    @cached_property
    def root(self) -> Node:
        """The compiled schema, with `apiVersion`, `kind` and `metadata` as every object has them."""
        with _LOCK:
            shared = builtin_schemas.compiler()
            if self.builtin:
                return shared.compile(self.raw)
            node = Compiler({}).compile(self.raw)
            node.type = node.type or "object"
            text = Node(type="string")
            metadata = shared.compile({"$ref": f"#/$defs/{OBJECT_META}"})
            node.properties = {**node.properties, "apiVersion": text, "kind": text, "metadata": metadata}
            return node

    @cached_property
    def _validator(self) -> jsonschema_rs.Draft4Validator:
        with _LOCK:
            if self.builtin:
                return validation.compile_validator(self.raw, _as_checked(builtin_schemas.closure(self.raw)))
            reference = {"$ref": f"#/$defs/{OBJECT_META}"}
            own = self.raw.get("properties") or {}
            metadata: Json = {"allOf": [reference, own["metadata"]]} if own.get("metadata") else reference
            properties = {**own, "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata}
            raw = {**self.raw, "type": "object", "properties": properties}
            return validation.compile_validator(raw, _without_required(builtin_schemas.closure(reference)))

    @cached_property
    def _rules(self) -> RuleSet:
        with _LOCK:
            return RuleSet(self.root)

    @cached_property
    def _quantities(self) -> QuantityFields:
        with _LOCK:
            return QuantityFields(self.root)

    def prune(self, obj: Json) -> list[str]:
        """Drops unknown fields in place and returns their paths."""
        return structure.prune(self.root, obj)

    def default(self, obj: Json) -> None:
        """Fills in the schema's defaults in place; nulls that the schema forbids mean `not set`."""
        structure.drop_nulls(self.root, obj)
        structure.default(self.root, obj)
        self.canonicalize(obj)

    def canonicalize(self, obj: Json) -> None:
        """Writes the quantities of a built-in kind in their shortest text, in place: `1000m` becomes `1`."""
        if self.builtin:
            self._quantities.canonicalize(obj)

    def validate(self, obj: Json) -> list[FieldCause]:
        """What is wrong with the shape of `obj`; empty when nothing is."""
        found = validation.causes(self._validator, obj)
        if self.builtin:
            found.extend(self._quantities.causes(obj))
        else:
            found.extend(validation.structural_causes(self.root, obj))
        return found

    @cached_property
    def blank(self) -> Json:
        """What an object of the kind holds before anybody sets anything. Not to be changed."""
        return structure.blank(self.root) if self.builtin else {}

    @property
    def has_rules(self) -> bool:
        return self._rules.found

    def rules(self, obj: Json, old: Json | None = None) -> list[FieldCause]:
        """What the CEL rules say against `obj`. Rules that name `oldSelf` run only where there is an `old`."""
        return self._rules.evaluate(obj, old)

    def subschema(self, path: tuple[str, ...]) -> Node:
        """The node at a path of field names; the one that allows anything where the schema ends."""
        node: Node | None = self.root
        for key in path:
            node = node.child(key) if node is not None else None
        return node if node is not None else ANY


def _as_checked(definitions: dict[str, Json]) -> dict[str, Json]:
    """Built-in definitions as Kubernetes checks them: a status may lack fields that its Go type always writes."""
    return {
        name: {key: value for key, value in body.items() if key != "required"} if _is_status(name) else body
        for name, body in definitions.items()
    }


def _without_required(definitions: dict[str, Json]) -> dict[str, Json]:
    """Of metadata the server checks itself what must be there, in words of its own."""
    return {
        name: {key: value for key, value in body.items() if key != "required"} for name, body in definitions.items()
    }


def _is_status(name: str) -> bool:
    return name.endswith(("Status", "Condition")) or ".ContainerState" in name
