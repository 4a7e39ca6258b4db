"""The compiled form of a structural schema: a graph of `Node`s, one per field, that every walk of this package follows.

Pruning, defaulting, list checks, CEL, strategic merge and field ownership all descend an object and its schema side by
side. A JSON schema answers their questions slowly (references, three spellings of a list's keys), so it is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

REF_PREFIX: Final = "#/$defs/"


@dataclass(slots=True, eq=False)
class Node:
    """One position of the schema. `type` is empty where anything may stand.

    `list_type` is `atomic`, `set` or `map`, as server-side apply sees the list; `patch_merge` and `merge_key` are what
    strategic merge patch sees. The two differ for some built-in lists.
    """

    type: str = ""
    properties: dict[str, Node] = field(default_factory=dict)
    items: Node | None = None
    additional: Node | None = None  # the schema of every key that `properties` does not name
    preserve: bool = False
    embedded: bool = False
    int_or_string: bool = False
    quantity: bool = False
    format: str = ""
    nullable: bool = False
    default: Any = None
    has_default: bool = False
    list_type: str = "atomic"
    map_keys: tuple[str, ...] = ()
    atomic_map: bool = False
    patch_merge: bool = False
    patch_replace: bool = False
    retain_keys: bool = False
    merge_key: str = ""
    rules: tuple[Json, ...] = ()
    required: frozenset[str] = frozenset()

    def children(self) -> Iterator[Node]:
        """The nodes one level below."""
        yield from self.properties.values()
        if self.items is not None:
            yield self.items
        if self.additional is not None:
            yield self.additional

    def child(self, key: str) -> Node | None:
        """The node of field `key`, or None where the schema does not know it."""
        found = self.properties.get(key)
        return found if found is not None else self.additional


ANY: Final = Node(preserve=True)


class Compiler:
    """Reads schemas into nodes. Definitions are compiled once, so recursive and shared types cost nothing more."""

    def __init__(self, definitions: Json) -> None:
        self._definitions = definitions
        self._compiled: dict[str, Node] = {}

    def compile(self, raw: Any) -> Node:
        if not isinstance(raw, dict):
            return ANY
        reference = raw.get("$ref")
        if isinstance(reference, str):
            return self._reference(reference.removeprefix(REF_PREFIX), raw)
        node = Node()
        self._fill(node, raw)
        return node

    def _reference(self, name: str, raw: Json) -> Node:
        node = self._compiled.get(name)
        if node is None:
            # Registered before it is filled, so that a type that contains itself finds the same node.
            node = self._compiled[name] = Node()
            self._fill(node, self._definitions.get(name, {}))
        if raw.get("x-kubernetes-patch-strategy") or "default" in raw:
            node = _copy(node)
            _read_patch_strategy(node, raw)
            _read_default(node, raw)
        return node

    def _fill(self, node: Node, raw: Json) -> None:
        node.type = raw.get("type") or ""
        node.nullable = raw.get("nullable") is True
        node.preserve = raw.get("x-kubernetes-preserve-unknown-fields") is True
        node.embedded = raw.get("x-kubernetes-embedded-resource") is True
        node.int_or_string = raw.get("x-kubernetes-int-or-string") is True or raw.get("format") == "int-or-string"
        node.format = raw.get("format") or ""
        node.quantity = raw.get("format") == "quantity"
        node.atomic_map = raw.get("x-kubernetes-map-type") == "atomic"
        node.list_type = raw.get("x-kubernetes-list-type") or "atomic"
        node.map_keys = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        node.rules = tuple(raw.get("x-kubernetes-validations") or ())
        node.required = frozenset(raw.get("required") or ())
        _read_patch_strategy(node, raw)
        _read_default(node, raw)
        node.properties = {key: self.compile(child) for key, child in (raw.get("properties") or {}).items()}
        if "items" in raw:
            node.items = self.compile(raw["items"])
        additional = raw.get("additionalProperties")
        if additional is True:
            node.additional = ANY
        elif isinstance(additional, dict):
            node.additional = self.compile(additional)
        if not (node.type or node.properties or node.items or node.int_or_string):
            node.preserve = True


def _read_patch_strategy(node: Node, raw: Json) -> None:
    strategies = str(raw.get("x-kubernetes-patch-strategy") or "").split(",")
    node.patch_merge = "merge" in strategies
    node.patch_replace = "replace" in strategies
    node.retain_keys = "retainKeys" in strategies
    node.merge_key = raw.get("x-kubernetes-patch-merge-key") or ""


def _read_default(node: Node, raw: Json) -> None:
    if "default" in raw:
        node.default = raw["default"]
        node.has_default = True


def _copy(node: Node) -> Node:
    return Node(**{name: getattr(node, name) for name in Node.__slots__})
