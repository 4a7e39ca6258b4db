"""Strategic merge patch: a merge patch that knows which lists are maps in disguise.

The schema says which lists merge, and by which key. A patch may carry directives: `$patch` (replace, delete, merge) in
an object, `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD` beside a list, `$retainKeys` in a union.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Final

from kaito.local.machinery.errors import bad_request
from kaito.local.machinery.nodes import ANY, Node

Json = dict[str, Any]

_DIRECTIVE: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"


def merge(original: Json, patch: Json, node: Node) -> Json:
    """`original` with `patch` applied; neither is changed."""
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type: {directive!r}; known are replace, delete and merge")
    merged = _retained(original, patch)
    for key, value in patch.items():
        if key in (_DIRECTIVE, _RETAIN) or key.startswith((_ORDER, _DELETE)):
            continue
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_value(merged, key, value, patch, node.child(key) or ANY)
    _finish_lists(merged, patch, node)
    return merged


def _retained(original: Json, patch: Json) -> Json:
    retained = patch.get(_RETAIN)
    if retained is None:
        return dict(original)
    names = _texts(retained, _RETAIN)
    for key in patch:
        if not key.startswith("$") and key not in names and patch[key] is not None:
            raise bad_request(f"{_RETAIN} does not name the field {key!r} that the patch sets")
    return {key: value for key, value in original.items() if key in names}


def _merge_value(merged: Json, key: str, value: Any, patch: Json, node: Node) -> Any:
    existing = merged.get(key)
    if isinstance(value, dict):
        if node.patch_replace:
            return _without_directives(value)
        return merge(existing if isinstance(existing, dict) else {}, value, node)
    if isinstance(value, list):
        if node.patch_merge:
            return _merge_list(existing if isinstance(existing, list) else [], value, patch.get(_ORDER + key), node)
        return [_without_directives(item) for item in value]
    return value


def _without_directives(value: Any) -> Any:
    """A new value as it goes into the object: directives are for merging only."""
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_directives(item) for key, item in value.items() if not _is_directive(key)}


def _is_directive(key: str) -> bool:
    return key in (_DIRECTIVE, _RETAIN) or key.startswith((_ORDER, _DELETE))


def _merge_list(existing: list[Any], patch: list[Any], order: Any, node: Node) -> list[Any]:
    wanted = patch if order is None else _list(order, _ORDER)  # without an order, that of the patch itself
    if order is not None:
        _check_order(patch, wanted, node)
    if node.merge_key:
        merged = _merge_by_key(existing, patch, node)
        names = [_key_text(item, node.merge_key) for item in wanted if not _is_special(item)]
        current = [_key_text(item, node.merge_key) for item in merged]
    else:
        merged = [*existing, *(item for item in _unique(patch) if item not in existing)]
        names = [_text(item) for item in wanted]
        current = [_text(item) for item in merged]
    return _ordered(merged, current, names, existing, node)


def _check_order(patch: list[Any], wanted: list[Any], node: Node) -> None:
    """What a patch brings has to stand in the order that it gives, in that order."""
    key = node.merge_key
    names = iter([_key_text(item, key) if key else _text(item) for item in wanted])
    for item in patch:
        if not _is_special(item) and (_key_text(item, key) if key else _text(item)) not in names:
            raise bad_request(f"The order in patch list:\n{patch}\n doesn't match {_ORDER[:-1]} list:\n{wanted}\n")


def _is_special(item: Any) -> bool:
    """An element that says what to do and is none itself."""
    return isinstance(item, dict) and _DIRECTIVE in item


def _merge_by_key(existing: list[Any], patch: list[Any], node: Node) -> list[Any]:
    key = node.merge_key
    item_node = node.items or ANY
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        kept = [item for item in patch if not (isinstance(item, dict) and item.get(_DIRECTIVE) == "replace")]
        return [_without_directives(item) for item in kept]
    merged = list(existing)
    for item in patch:
        if not isinstance(item, dict):
            raise bad_request(f"an element of a list that merges by {key!r} has to be an object, not {item!r}")
        if key not in item:
            raise bad_request(f"map: {json.dumps(item, default=str)[:200]} does not contain declared merge key: {key}")
        wanted = _key_text(item, key)
        places = [index for index, other in enumerate(merged) if _key_text(other, key) == wanted]
        if item.get(_DIRECTIVE) == "delete":
            merged = [other for index, other in enumerate(merged) if index not in places]
        elif places:
            merged[places[0]] = merge(merged[places[0]], item, item_node)
        else:
            merged.append(merge({}, item, item_node))
    return merged


def _finish_lists(merged: Json, patch: Json, node: Node) -> None:
    """Deletions from lists of scalars, and orders given for lists that the patch does not change otherwise."""
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            doomed = {_text(item) for item in _list(value, _DELETE)}
            if isinstance(merged.get(name), list):
                added = {_text(item) for item in patch.get(name) or () if not isinstance(item, dict)}
                merged[name] = [item for item in merged[name] if _text(item) not in doomed or _text(item) in added]
        elif key.startswith(_ORDER):
            name = key.removeprefix(_ORDER)
            child = node.child(name) or ANY
            if (
                patch.get(name) is None
                and name not in patch
                and isinstance(merged.get(name), list)
                and child.patch_merge
            ):
                merged[name] = _merge_list(merged[name], [], value, child)


def _ordered(merged: list[Any], current: list[str], names: list[str], before: list[Any], node: Node) -> list[Any]:
    """The elements that `names` lists, in that order. An element that only the server has goes before the first of them
    that stood behind it, seen from where its predecessor went; one that is new stood nowhere.
    """
    rank = {name: index for index, name in enumerate(names)}
    result = sorted((index for index, name in enumerate(current) if name in rank), key=lambda one: rank[current[one]])
    texts = [_key_text(item, node.merge_key) if node.merge_key else _text(item) for item in before]
    place = {name: index for index, name in enumerate(texts)}
    position = 0
    for index, name in enumerate(current):
        if name in rank:
            continue
        stood = place.get(name, len(before))
        while position < len(result) and place.get(current[result[position]], -1) <= stood:
            position += 1
        result.insert(position, index)
        position += 1
    return [merged[index] for index in result]


def _key_text(item: Any, key: str) -> str:
    return _text(item.get(key)) if isinstance(item, dict) else ""


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _unique(items: list[Any]) -> list[Any]:
    seen: set[str] = set()
    return [item for item in items if not (_text(item) in seen or seen.add(_text(item)))]  # type: ignore[func-returns-value]  # add returns None


def _list(value: Any, directive: str) -> list[Any]:
    if not isinstance(value, list):
        raise bad_request(f"{directive} needs a list")
    return value


def _texts(value: Any, directive: str) -> list[str]:
    return [str(item) for item in _list(value, directive)]
