"""Pruning and defaulting: the two changes that a schema makes to an object on its way in.

Both walk the object beside its compiled schema and change it in place. What Kubernetes calls a structural schema
guarantees that one such walk is enough.
"""

from __future__ import annotations

import copy
from typing import Any

from kaito.local.machinery.nodes import Node

Json = dict[str, Any]

# Every object carries these whatever its schema says.
TYPE_META = frozenset({"apiVersion", "kind", "metadata"})


def prune(node: Node, obj: Json) -> list[str]:
    """Drops the fields that the schema does not know, in place; their paths, such as `spec.replicsa`, sorted."""
    dropped: list[str] = []
    _prune(node, obj, "", True, dropped)
    return sorted(dropped)


def _prune(node: Node, value: Any, path: str, resource: bool, dropped: list[str]) -> None:
    if isinstance(value, dict):
        _prune_fields(node, value, path, resource or node.embedded, dropped)
    elif isinstance(value, list) and node.items is not None:
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                _prune(node.items, item, f"{path}[{index}]", False, dropped)


def _prune_fields(node: Node, value: Json, path: str, resource: bool, dropped: list[str]) -> None:
    unknown: list[str] = []
    for key, item in value.items():
        child = node.properties.get(key)
        if child is None:
            child = node.additional
        if child is None:
            if not (node.preserve or (resource and key in TYPE_META)):
                unknown.append(key)
        elif isinstance(item, dict | list):
            _prune(child, item, f"{path}.{key}" if path else key, False, dropped)
    for key in unknown:
        del value[key]
        dropped.append(f"{path}.{key}" if path else key)


def default(node: Node, value: Any) -> None:
    """Fills in the defaults of the schema, in place. A null that the schema forbids is replaced by the default too."""
    if isinstance(value, dict):
        _default_fields(node, value)
    elif isinstance(value, list) and node.items is not None:
        for item in value:
            if isinstance(item, dict | list):
                default(node.items, item)


def _default_fields(node: Node, value: Json) -> None:
    for key, child in node.properties.items():
        if child.has_default and (key not in value or (value[key] is None and not child.nullable)):
            value[key] = copy.deepcopy(child.default)
        item = value.get(key)
        if isinstance(item, dict | list):
            default(child, item)
    if node.additional is None:
        return
    for key, item in value.items():
        if item is None and node.additional.has_default and not node.additional.nullable:
            value[key] = copy.deepcopy(node.additional.default)
        elif key not in node.properties and isinstance(item, dict | list):
            default(node.additional, item)


def drop_nulls(node: Node, value: Any) -> None:
    """Removes fields that are null where the schema does not allow null, in place: they mean `not set`."""
    if isinstance(value, list):
        if node.items is not None:
            for item in value:
                if isinstance(item, dict | list):
                    drop_nulls(node.items, item)
        return
    if not isinstance(value, dict):
        return
    for key in [key for key, item in value.items() if item is None]:
        child = node.child(key)
        if child is not None and not child.nullable and not child.preserve:
            del value[key]
    for key, item in value.items():
        child = node.child(key)
        if child is not None and isinstance(item, dict | list):
            drop_nulls(child, item)


_ZEROS: tuple[Any, ...] = ({}, "", 0, False, None)


def blank(node: Node) -> Json:
    """What the Go type of a built-in kind writes when nobody has set anything: its structs with their scalars and
    times, and null for lists that it always writes. No field of it is anybody's.
    """
    empty: Json = {}
    for key, child in node.properties.items():
        if child.has_default and child.default in _ZEROS:
            empty[key] = blank(child) if isinstance(child.default, dict) else child.default
        elif child.type == "array" and key in node.required:
            empty[key] = None
    return empty
