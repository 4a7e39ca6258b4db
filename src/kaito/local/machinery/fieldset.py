"""Sets of field paths, in the very form in which `metadata.managedFields` stores them (FieldsV1).

A set is a tree of maps: `f:NAME` is a field, `k:{...}` an element of a list with keys, `v:...` an element of a set. An
empty map is a path that belongs to the set; a path that belongs and has children that do carries the extra key `.`.
Trees are never changed once built, so parts are shared freely. None is the empty set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kaito.local.machinery.nodes import ANY, Node

Json = dict[str, Any]
Tree = dict[str, Any]

SELF: Final = "."
_LEAF: Final[Tree] = {}
_encode: Final = msgspec.json.Encoder().encode


class KeyedListError(ValueError):
    """A list with keys whose elements lack a key or share one."""


def member(tree: Tree) -> bool:
    """Whether the path at which `tree` stands belongs to the set itself."""
    return not tree or SELF in tree


def _build(belongs: bool, children: Tree) -> Tree | None:
    if not children:
        return _LEAF if belongs else None
    if belongs:
        children[SELF] = _LEAF
    return children


def union(one: Tree | None, other: Tree | None) -> Tree | None:
    if one is None or other is None or one is other:
        return other if one is None else one
    merged = {**one, **other}
    for key in one.keys() & other.keys():
        merged[key] = union(one[key], other[key])
    if merged and (not one or not other):  # one of the two is a leaf
        merged[SELF] = _LEAF
    return merged


def difference(one: Tree | None, other: Tree | None) -> Tree | None:
    """The paths of `one` that are not in `other`."""
    if one is None or other is None:
        return one
    if one == other:
        return None
    children: Tree = {}
    for key, tree in one.items():
        if key != SELF:
            left = difference(tree, other.get(key))
            if left is not None:
                children[key] = left
    return _build(member(one) and not member(other), children)


def intersection(one: Tree | None, other: Tree | None) -> Tree | None:
    if one is None or other is None:
        return None
    children: Tree = {}
    for key, tree in one.items():
        if key != SELF:
            shared = intersection(tree, other.get(key))
            if shared is not None:
                children[key] = shared
    return _build(member(one) and member(other), children)


def paths(tree: Tree, prefix: str = "") -> Iterator[str]:
    """The paths as people read them: `.spec.containers[name="a"].image`."""
    if prefix and member(tree):
        yield prefix
    for key, child in sorted(tree.items()):
        if key != SELF:
            yield from paths(child, prefix + _render(key))


def _render(key: str) -> str:
    kind, _, text = key.partition(":")
    if kind == "f":
        return f".{text}"
    if kind == "k":
        fields = json.loads(text)
        inner = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(fields.items()))
        return f"[{inner}]"
    return f"[={text}]"


def is_fields(value: Any) -> bool:
    """Whether a value read from outside has the shape of FieldsV1."""
    if not isinstance(value, dict):
        return False
    return all((key == SELF or _is_path_element(key)) and is_fields(child) for key, child in value.items())


def _is_path_element(key: str) -> bool:
    kind, colon, text = key.partition(":")
    if kind == "f":
        return bool(colon)
    if kind not in ("k", "v"):
        return False
    try:
        decoded = json.loads(text)
    except ValueError:
        return False
    return isinstance(decoded, dict) if kind == "k" else True


def fields_of(node: Node, value: Any) -> Tree | None:
    """What an apply of `value` owns: its leaves, and the elements of lists and maps that hold further fields.

    A struct of the schema belongs to whoever owns what is in it, so it is no member itself; an empty list with keys
    owns nothing. Raises KeyedListError.
    """
    if isinstance(value, dict) and not node.atomic_map:
        children: Tree = {}
        for key, item in value.items():
            tree = fields_of(node.child(key) or ANY, item)
            if item in (None, {}) or key not in node.properties:
                tree = _with_self(tree)
            if tree is not None:
                children[f"f:{key}"] = tree
        return children or None
    if isinstance(value, list) and node.list_type != "atomic":
        item_node = node.items or ANY
        return {key: _with_self(fields_of(item_node, item)) for key, item in keyed_items(node, value).items()} or None
    return _LEAF


def _with_self(tree: Tree | None) -> Tree:
    return {SELF: _LEAF, **tree} if tree else _LEAF


def all_fields_of(node: Node, value: Any) -> Tree:
    """Every path of a value, that of each struct, map and list included: what an update that adds it owns.

    Raises KeyedListError.
    """
    children: Tree = {}
    if isinstance(value, dict) and not node.atomic_map:
        children = {f"f:{key}": all_fields_of(node.child(key) or ANY, item) for key, item in value.items()}
    elif isinstance(value, list) and node.list_type != "atomic":
        item_node = node.items or ANY
        children = {key: all_fields_of(item_node, item) for key, item in keyed_items(node, value).items()}
    return _with_self(children)


def keyed_items(node: Node, items: list[Any]) -> dict[str, Any]:
    """The elements of a set or of a list with keys, by path element. Raises KeyedListError."""
    found: dict[str, Any] = {}
    for index, item in enumerate(items):
        key = _value_key(item) if node.list_type == "set" else _map_key(node, item, index)
        if key in found:
            if node.list_type == "set":
                continue
            raise KeyedListError(f"duplicate entries for key {_render(key)}")
        found[key] = item
    return found


def _value_key(item: Any) -> str:
    return "v:" + msgspec.json.encode(item, order="sorted").decode()


def _map_key(node: Node, item: Any, index: int) -> str:
    if not isinstance(item, dict):
        raise KeyedListError(f"element {index}: associative list with keys may not have non-map elements")
    fields: Json = {}
    for name in node.map_keys if len(node.map_keys) == 1 else sorted(node.map_keys):
        if item.get(name) is not None:
            fields[name] = item[name]
            continue
        child = node.items.child(name) if node.items is not None else None
        if child is not None and child.has_default:
            fields[name] = child.default
        elif len(node.map_keys) == 1:
            raise KeyedListError(
                f'element {index}: associative list with keys has an element that omits key field "{name}" '
                "(and doesn't have default value)"
            )
    if not fields:
        raise KeyedListError(f"element {index}: associative list with keys has an element that omits all key fields")
    return "k:" + _encode(fields).decode()


def compare(node: Node, before: Any, after: Any) -> tuple[Tree | None, Tree | None]:
    """(fields that `after` adds or changes, fields that only `before` has). Raises KeyedListError."""
    if before is after or _same(before, after):
        return None, None
    if isinstance(before, dict) and isinstance(after, dict) and not node.atomic_map:
        return _compare_maps(node, before, after)
    if isinstance(before, list | None) and isinstance(after, list) and node.list_type != "atomic":
        return _compare_lists(node, before or [], after)  # a list that is always there belongs to nobody itself
    changed = all_fields_of(node, after)
    return changed, difference(all_fields_of(node, before), changed)


def _same(one: Any, other: Any) -> bool:
    # In Python True equals 1; in JSON they are two values.
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _compare_maps(node: Node, before: Json, after: Json) -> tuple[Tree | None, Tree | None]:
    changed: Tree = {}
    removed: Tree = {}
    for key, item in after.items():
        child = node.child(key) or ANY
        if key not in before:
            changed[f"f:{key}"] = all_fields_of(child, item)
            continue
        more, less = compare(child, before[key], item)
        if more is not None:
            changed[f"f:{key}"] = more
        if less is not None:
            removed[f"f:{key}"] = less
    for key in before.keys() - after.keys():
        removed[f"f:{key}"] = all_fields_of(node.child(key) or ANY, before[key])
    return changed or None, removed or None


def _compare_lists(node: Node, before: list[Any], after: list[Any]) -> tuple[Tree | None, Tree | None]:
    old, new = keyed_items(node, before), keyed_items(node, after)
    item_node = node.items or ANY
    changed: Tree = {}
    removed: Tree = {}
    for key, item in new.items():
        if key not in old:
            changed[key] = all_fields_of(item_node, item)
            continue
        more, less = compare(item_node, old[key], item)
        if more is not None:
            changed[key] = more
        if less is not None:
            removed[key] = less
    for key in old.keys() - new.keys():
        removed[key] = all_fields_of(item_node, old[key])
    return changed or None, removed or None
