"""Server-side apply, and the bookkeeping of who owns which field for every other write.

`apply` merges what a manager sends into the live object: fields that it sends become its own, a field that another
manager owns with another value is a conflict, and a field that it sent last time and no longer sends is removed unless
somebody else owns it. `track` moves the fields that an update changed to the manager that made it. Both write
`metadata.managedFields`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kaito.local.machinery import fieldset
from kaito.local.machinery.errors import apply_conflict, bad_request
from kaito.local.machinery.fieldset import KeyedListError, Tree
from kaito.local.machinery.nodes import ANY, Node
from kaito.local.machinery.schema import Schema

Json = dict[str, Any]

APPLY: Final = "Apply"
UPDATE: Final = "Update"
# Written by the server or part of the object's identity: nobody owns them.
_SERVER_METADATA: Final = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    }
)
_MAX_UPDATERS: Final = 10
_BEFORE_FIRST_APPLY: Final = "before-first-apply"
_ANCIENT: Final = "ancient-changes"
_IDENTITY: Final = frozenset({"name", "namespace"})


@dataclass(frozen=True)
class Entry:
    """One entry of `metadata.managedFields`."""

    manager: str
    operation: str
    api_version: str
    time: str
    subresource: str
    fields: Tree

    @property
    def identity(self) -> tuple[str, str, str, str]:
        # An applier keeps its fields when it moves to another version of the kind; an updater has one entry a version.
        version = "" if self.operation == APPLY else self.api_version
        return self.manager, self.operation, version, self.subresource

    def describe(self) -> str:
        """As a conflict names it: `"kubectl" using apps/v1`."""
        text = json.dumps(self.manager)
        if self.subresource:
            text += f" with subresource {json.dumps(self.subresource)}"
        return text if self.operation == APPLY else f"{text} using {self.api_version}"

    def to_json(self) -> Json:
        entry: Json = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields,
        }
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry

    @classmethod
    def from_json(cls, raw: Json) -> Entry:
        return cls(
            manager=raw.get("manager") or "",
            operation=raw["operation"],
            api_version=raw.get("apiVersion") or "",
            time=raw.get("time") or "",
            subresource=raw.get("subresource") or "",
            fields=raw["fieldsV1"],
        )


def read_entries(obj: Json | None) -> list[Entry]:
    """The entries of an object that the server stored, and so checked, before."""
    stored = ((obj or {}).get("metadata") or {}).get("managedFields") or ()
    return [Entry.from_json(raw) for raw in stored]


def _is_entry(raw: Any) -> bool:
    if not isinstance(raw, dict) or not fieldset.is_fields(raw.get("fieldsV1")):
        return False
    texts = [raw.get(key) or "" for key in ("manager", "apiVersion", "time", "subresource")]
    return all(isinstance(text, str) for text in texts) and raw.get("operation") in (APPLY, UPDATE)


def apply(
    live: Json | None,
    applied: Json,
    *,
    manager: str,
    force: bool,
    schema: Schema,
    api_version: str,
    subresource: str,
    now: str,
) -> Json:
    """The live object with `applied` merged in, and its managed fields brought up to date.

    `live` is None where the object does not exist. When nothing changes, the answer equals `live`, times included.
    `now` is RFC 3339. Raises StatusError: 409 with every conflict as a cause, 400 for a body that cannot be applied.
    """
    node = schema.root
    config = _configuration(applied, node, subresource)
    schema.canonicalize(config)
    mine = Entry(manager, APPLY, api_version, now, subresource, _owned(node, config, subresource) or {})
    entries = read_entries(live) if live is None else _known_entries(live, schema, api_version, now)
    previous = next((entry for entry in entries if entry.identity == mine.identity), None)
    others = [entry for entry in entries if entry is not previous]
    base: Json = live if live is not None else {}
    merged: Json = _merge(node, base, config)
    if previous is not None:
        dropped = fieldset.difference(previous.fields, mine.fields)
        if dropped is not None:
            # An empty list with keys is owned by nobody, and stays all the same while it is applied.
            kept: Tree | None = fieldset.all_fields_of(node, _trackable(config))
            for entry in others:
                kept = fieldset.union(kept, entry.fields)
            merged = _without(node, merged, dropped, kept)
    others = _resolve(node, base, merged, others, force)
    if previous is not None and previous.fields == mine.fields:
        mine = replace(mine, time=previous.time)
    return _with_entries(merged, live, [*others, mine] if mine.fields else others)


def track(
    before: Json | None,
    after: Json,
    *,
    manager: str,
    schema: Schema,
    api_version: str,
    subresource: str,
    now: str,
) -> Json:
    """`after` with the managed fields that follow from the change, for a create, update or patch by `manager`.

    A client may send managed fields of its own; an empty list, or one empty entry, forgets all owners, as in
    Kubernetes.
    """
    node = schema.root
    entries = _starting_entries(before, after)
    if before is not None and not entries:
        return _with_entries(after, None, [])  # ownership was given up; the next apply takes it up again
    try:
        changed, removed = fieldset.compare(node, _compared(before or schema.blank), _compared(after))
    except KeyedListError:
        # Kubernetes does not track what it cannot take apart either; the write itself is fine.
        return _with_entries(after, None, entries)
    mine = Entry(manager, UPDATE, api_version, now, subresource, {})
    result: list[Entry] = []
    own: Tree | None = None
    for entry in entries:
        left = fieldset.difference(entry.fields, removed)
        if entry.identity == mine.identity:
            own, mine = left, replace(entry, api_version=api_version)
            continue
        left = fieldset.difference(left, changed)
        if left:
            result.append(entry if left == entry.fields else replace(entry, fields=left))
    fields = fieldset.union(own, changed)
    if fields:
        result.append(mine if fields == mine.fields else replace(mine, fields=fields, time=now))
    return _with_entries(after, None, _capped(result))


def _capped(entries: list[Entry]) -> list[Entry]:
    """At most ten updaters: the oldest beyond that are folded into one, a version of the API each.

    Subresources keep their own entries, for they are few.
    """
    updates = sorted(
        (entry for entry in entries if entry.operation == UPDATE and not entry.subresource),
        key=lambda entry: (entry.time, entry.manager != _ANCIENT, entry.manager),
    )
    surplus = len(updates) - _MAX_UPDATERS
    if surplus <= 0:
        return entries
    folded: dict[str, Entry] = {}
    # One more than the surplus: the fold is an entry itself.
    for entry in updates[: surplus + 1]:
        ancient = folded.get(entry.api_version)
        fields = fieldset.union(ancient.fields, entry.fields) if ancient else entry.fields
        folded[entry.api_version] = replace(entry, manager=_ANCIENT, fields=fields or {})
    gone = {entry.identity for entry in updates[: surplus + 1]}
    return [*(entry for entry in entries if entry.identity not in gone), *folded.values()]


def _known_entries(live: Json, schema: Schema, api_version: str, now: str) -> list[Entry]:
    """The entries of an object; where nobody tracked it so far, one for all that was there before the first apply."""
    entries = read_entries(live)
    if entries:
        return entries
    try:
        fields, _ = fieldset.compare(schema.root, _compared(schema.blank), _compared(live))
    except KeyedListError:
        return []
    return [Entry(_BEFORE_FIRST_APPLY, UPDATE, api_version, now, "", fields)] if fields else []


def _configuration(applied: Json, node: Node, subresource: str) -> Json:
    """What the manager really says: no nulls, nothing that the server owns, only the subresource's part."""
    metadata = applied.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata: must be an object")
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    config: Json = _without_nulls(node, applied)
    own = {key: item for key, item in (config.get("metadata") or {}).items() if key not in _SERVER_METADATA - _IDENTITY}
    if subresource == "status":
        own = {key: item for key, item in own.items() if key in _IDENTITY}
        config = {key: item for key, item in config.items() if key in ("apiVersion", "kind", "status")}
    if own:
        config["metadata"] = own
    return config


def _without_nulls(node: Node, value: Any) -> Any:
    """A copy without the nulls that the schema does not allow: they say nothing."""
    if isinstance(value, list):
        items = node.items or ANY
        return [_without_nulls(items, item) if isinstance(item, dict | list) else item for item in value]
    kept: Json = {}
    for key, item in value.items():
        child = node.child(key) or ANY
        if isinstance(item, dict | list):
            kept[key] = _without_nulls(child, item)
        elif item is not None or child.nullable or child.preserve:
            kept[key] = item
    return kept


def _trackable(obj: Json) -> Json:
    """The object without what nobody owns."""
    kept = {key: item for key, item in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = obj.get("metadata")
    own = {key: item for key, item in metadata.items() if key not in _SERVER_METADATA} if metadata else {}
    if own:
        kept["metadata"] = own
    return kept


def _compared(obj: Json) -> Json:
    """As `_trackable`, for a comparison: every object has metadata, so nobody adds or removes it."""
    return {"metadata": {}, **_trackable(obj)}


def _owned(node: Node, config: Json, subresource: str) -> Tree | None:
    trackable = _trackable(config)
    if not trackable:
        return None
    try:
        return fieldset.fields_of(node, trackable)
    except KeyedListError as error:
        raise bad_request(f"failed to create typed patch object: {error}") from error


def _resolve(node: Node, live: Json, merged: Json, others: Sequence[Entry], force: bool) -> list[Entry]:
    """The other entries, without the fields that this apply takes from them. Raises StatusError 409 unless forced."""
    if not others:
        return []
    try:
        changed, removed = fieldset.compare(node, _compared(live), _compared(merged))
    except KeyedListError:
        return list(others)
    conflicts: list[tuple[str, str]] = []
    left: list[Entry] = []
    for entry in others:
        taken = fieldset.intersection(entry.fields, changed)
        if taken is not None:
            conflicts.extend((entry.describe(), path) for path in fieldset.paths(taken))
        remaining = fieldset.difference(fieldset.difference(entry.fields, taken), removed)
        if remaining:
            left.append(entry if remaining == entry.fields else replace(entry, fields=remaining))
    if conflicts and not force:
        raise apply_conflict(conflicts)
    return left


def _merge(node: Node, live: Any, applied: Any) -> Any:
    if isinstance(live, dict) and isinstance(applied, dict) and not node.atomic_map:
        merged = dict(live)
        for key, item in applied.items():
            merged[key] = _merge(node.child(key) or ANY, live[key], item) if key in live else item
        return merged
    if isinstance(live, list) and isinstance(applied, list) and node.list_type != "atomic":
        return _merge_lists(node, live, applied)
    return applied


def _merge_lists(node: Node, live: list[Any], applied: list[Any]) -> list[Any]:
    try:
        old, new = fieldset.keyed_items(node, live), fieldset.keyed_items(node, applied)
    except KeyedListError:
        return applied
    item_node = node.items or ANY
    pending = list(new)
    places = {key: index for index, key in enumerate(pending)}
    merged: list[Any] = []
    position = 0
    for key, item in old.items():
        if key not in new:
            merged.append(item)
            continue
        # The order of the applied list holds; elements of others stay before the element that they stood before.
        stop = places[key] + 1
        merged.extend(_merged_item(item_node, old, new, name) for name in pending[position:stop])
        position = max(position, stop)
    merged.extend(_merged_item(item_node, old, new, name) for name in pending[position:])
    return merged


def _merged_item(node: Node, old: Json, new: Json, key: str) -> Any:
    return _merge(node, old[key], new[key]) if key in old else new[key]


def _without(node: Node, value: Any, dropped: Tree, kept: Tree | None) -> Any:
    """`value` without the fields in `dropped`, except what `kept` holds at or below them."""
    if isinstance(value, dict):
        return _without_fields(node, value, dropped, kept or {})
    if isinstance(value, list) and node.list_type != "atomic":
        return _without_items(node, value, dropped, kept or {})
    return value


def _without_fields(node: Node, value: Json, dropped: Tree, kept: Tree) -> Json:
    left = dict(value)
    for key, tree in dropped.items():
        name = key[2:]
        if name not in left or not key.startswith("f:"):
            continue
        if key in kept:
            left[name] = _without(node.child(name) or ANY, left[name], tree, kept[key])
        else:
            # Nobody owns anything in it any more, so what defaults filled in goes with it.
            del left[name]
    return left


def _without_items(node: Node, value: list[Any], dropped: Tree, kept: Tree) -> list[Any]:
    try:
        items = fieldset.keyed_items(node, value)
    except KeyedListError:
        return value
    left: list[Any] = []
    for key, item in items.items():
        tree = dropped.get(key)
        if tree is None:
            left.append(item)
        elif not fieldset.member(tree) or key in kept:
            left.append(_without(node.items or ANY, item, tree, kept.get(key)))
    return left


def _starting_entries(before: Json | None, after: Json) -> list[Entry]:
    """The entries that the change starts from: those that the client sent where it sent sound ones, otherwise
    the live ones.
    """
    sent = (after.get("metadata") or {}).get("managedFields")
    if sent is None or (before is not None and sent == before["metadata"].get("managedFields")):
        return read_entries(before)  # as almost always: what the server wrote needs no check
    if sent in ([], [{}]):
        return []
    sound = isinstance(sent, list) and all(_is_entry(raw) for raw in sent)
    return read_entries(after if sound else before)


def _with_entries(obj: Json, live: Json | None, entries: Sequence[Entry]) -> Json:
    ordered = sorted(
        entries, key=lambda entry: (entry.operation, entry.time, entry.manager, entry.api_version, entry.subresource)
    )
    metadata = dict(obj.get("metadata") or {})
    metadata.pop("managedFields", None)
    if ordered:
        metadata["managedFields"] = [entry.to_json() for entry in ordered]
    return {**obj, "metadata": metadata}
