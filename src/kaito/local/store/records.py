"""What the store keeps: a record per object, an event per revision.

Objects are kept as the JSON that goes over the wire, `apiVersion` first, so that lists and watch events are joined
bytes. The decoded form is made when somebody asks and dropped once the record is history.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
Object = dict[str, Any]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Key(NamedTuple):
    bucket: str
    """`plural.group` of the kind that is stored, such as `pods` or `deployments.apps`."""
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"/{self.bucket}/{self.namespace}/{self.name}"


def parse_key(text: str) -> Key:
    _, bucket, namespace, name = text.split("/", 3)
    return Key(bucket, namespace, name)


class Record:
    """One object at one revision. `value` is shared: read it, never change it; `copy()` is the caller's own."""

    __slots__ = ("_value", "created", "key", "raw", "revision")

    def __init__(self, key: Key, raw: bytes, revision: int, created: int) -> None:
        self.key = key
        self.raw = raw
        self.revision = revision
        self.created = created
        self._value: Object | None = None

    @property
    def value(self) -> Object:
        if self._value is None:
            self._value = _decode(self.raw)
        return self._value

    def copy(self) -> Object:
        decoded: Object = _decode(self.raw)
        return decoded

    def forget(self) -> None:
        """Drops the decoded form; a record that only history holds is seldom read."""
        self._value = None


class Event:
    """One change. `wire` caches its encodings, so that fifty watchers of one version cost one."""

    __slots__ = ("previous", "record", "type", "wire")

    def __init__(self, type_: EventType, record: Record, previous: Record | None) -> None:
        self.type: EventType = type_
        self.record = record
        self.previous = previous
        self.wire: dict[str, bytes] = {}

    @property
    def revision(self) -> int:
        return self.record.revision


def encode_new(value: Object) -> bytes:
    """As `encode_object`, of an object that has no version: nobody stored it."""
    head = {"apiVersion": value["apiVersion"], "kind": value["kind"], "metadata": value.get("metadata", {})}
    return _encode({**head, **{name: part for name, part in value.items() if name not in head}})


def encode_object(value: Object, revision: int) -> bytes:
    """The object as stored: `apiVersion`, `kind` and `metadata` in front, resourceVersion set to the revision."""
    metadata = {**value.get("metadata", {}), "resourceVersion": str(revision)}
    head = {"apiVersion": value["apiVersion"], "kind": value["kind"], "metadata": metadata}
    return _encode({**head, **{name: part for name, part in value.items() if name not in head}})
