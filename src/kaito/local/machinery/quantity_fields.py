"""The fields of the built-in kinds that hold quantities: kept in their shortest text, as Kubernetes keeps them.

Kubernetes reads `cpu: 1` and `cpu: 1000m` as one number and stores `"1"`. Without that, two spellings of one amount
would be a change, and a conflict between two appliers.
"""

from __future__ import annotations

from typing import Any, Final

from kaito.local.machinery.errors import FieldCause, compact
from kaito.local.machinery.nodes import Json, Node
from kaito.local.machinery.quantity import QuantityError, canonical

_RULE: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


class QuantityFields:
    """Where a schema has quantities. Parts of an object whose schema has none are not visited."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._reaching: dict[int, bool] = {}
        self._collect(root)

    def _collect(self, node: Node) -> bool:
        known = self._reaching.get(id(node))
        if known is not None:
            return known
        self._reaching[id(node)] = node.quantity  # a type that contains itself ends here
        children = [self._collect(child) for child in node.children()]
        self._reaching[id(node)] = node.quantity or any(children)
        return self._reaching[id(node)]

    def canonicalize(self, obj: Json) -> None:
        """Rewrites every quantity in place. What is no quantity stays; `causes` names it."""
        for holder, key, _ in self._find(obj):
            try:
                holder[key] = canonical(holder[key])
            except QuantityError:
                continue

    def causes(self, obj: Json) -> list[FieldCause]:
        """The quantities that cannot be read."""
        found: list[FieldCause] = []
        for holder, key, path in self._find(obj):
            try:
                canonical(holder[key])
            except QuantityError:
                found.append(FieldCause(path, f"Invalid value: {compact(holder[key])}: {_RULE}"))
        return found

    def _find(self, obj: Json) -> list[tuple[Any, Any, str]]:
        """(container, key, path) of every quantity."""
        found: list[tuple[Any, Any, str]] = []
        self._visit(self._root, obj, "", found)
        return found

    def _visit(self, node: Node, value: Any, path: str, found: list[tuple[Any, Any, str]]) -> None:
        if isinstance(value, list):
            if node.items is not None and self._reaching[id(node.items)]:
                for index, item in enumerate(value):
                    if isinstance(item, dict | list):
                        self._visit(node.items, item, f"{path}[{index}]", found)
            return
        for key, item in value.items():
            child = node.properties.get(key) or node.additional
            if child is None or not self._reaching.get(id(child), False):
                continue
            if child.quantity:
                if isinstance(item, str | int | float):
                    found.append((value, key, f"{path}.{key}"))
            elif isinstance(item, dict | list):
                self._visit(child, item, f"{path}.{key}" if path else key, found)
