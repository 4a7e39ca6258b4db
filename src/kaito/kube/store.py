"""The cache behind an informer: objects by key, indexes by name, and memory of our own writes.

Keys are "namespace/name", or "name" for cluster-scoped kinds, as in the queue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

IndexFunction = Callable[[Any], Iterable[str]]


def object_key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str, str]:
    """Namespace (empty for cluster-scoped kinds) and name."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def is_older(version: str, than: str) -> bool:
    """Whether one resourceVersion is older than another. Versions of one server are numbers that only grow."""
    if version.isdigit() and than.isdigit():
        return int(version) < int(than)
    return version != than


class _Substance(msgspec.Struct):
    """What an owner cares about in an object: not its status, nor its metadata but for labels and annotations."""

    spec: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


def fingerprint(raw: bytes) -> str:
    """A short digest of an object's spec and data, to notice that somebody else changed them."""
    substance = msgspec.json.decode(raw, type=_Substance)
    digest = hashlib.blake2b(bytes(substance.spec), digest_size=8)
    digest.update(bytes(substance.data))
    return digest.hexdigest()


Keys = tuple[str, ...] | set[str]
"""What an index holds for one value: most have one key, and a set takes four times the memory of a short tuple."""
FEW = 8


def _with(keys: Keys, key: str) -> Keys:
    if isinstance(keys, set):
        keys.add(key)
        return keys
    if key in keys:
        return keys
    return (*keys, key) if len(keys) < FEW else {*keys, key}


def _without(keys: Keys, key: str) -> Keys:
    if isinstance(keys, set):
        keys.discard(key)
        return keys
    return tuple(other for other in keys if other != key)


class Store(Generic[T]):
    """What the informer knows. Written by the informer and by `observe_own_write`; read by everybody."""

    def __init__(self, indexes: Mapping[str, IndexFunction] | None = None, *, fingerprints: bool = False) -> None:
        self._objects: dict[str, T] = {}
        self._functions = dict(indexes or {})
        self._indexes: dict[str, dict[str, Keys]] = {name: {} for name in self._functions}
        self._fingerprints: dict[str, str] | None = {} if fingerprints else None
        self._own_writes: dict[str, str] = {}
        self._reached = ""

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def keys(self) -> set[str]:
        return set(self._objects)

    def get(self, key: str) -> T | None:
        return self._objects.get(key)

    def values(self) -> list[T]:
        return list(self._objects.values())

    def by_index(self, index: str, value: str) -> list[T]:
        """The objects whose index function gave `value`, ordered by key."""
        return [self._objects[key] for key in sorted(self._indexes[index].get(value, ()))]

    def fingerprint(self, key: str) -> str:
        return (self._fingerprints or {}).get(key, "")

    def observe_own_write(self, key: str, version: str) -> None:
        """Remember that we wrote `version`: until the cache has it, `is_behind` says so."""
        cached = self._objects.get(key)
        if cached is None or is_older(_version(cached), version):
            self._own_writes[key] = version

    def is_behind(self, key: str) -> bool:
        """Whether the cache does not yet show our own last write of this object."""
        written = self._own_writes.get(key)
        if written is None:
            return False
        cached = self._objects.get(key)
        if (cached is not None and not is_older(_version(cached), written)) or self._has_reached(written):
            del self._own_writes[key]
            return False
        return True

    def reach(self, version: str) -> None:
        """The informer has seen all changes up to `version`: a write before it that is not here was undone since."""
        self._reached = version

    def _has_reached(self, version: str) -> bool:
        return self._reached.isdigit() and version.isdigit() and int(self._reached) >= int(version)

    def put(self, key: str, obj: T, raw: bytes) -> T | None:
        """Store an object; returns what was there before. The informer calls this."""
        old = self._objects.get(key)
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = obj
        if self._fingerprints is not None:
            self._fingerprints[key] = fingerprint(raw)
        for name, function in self._functions.items():
            index = self._indexes[name]
            for value in function(obj):
                index[value] = _with(index.get(value, ()), key)
        return old

    def remove(self, key: str) -> T | None:
        """Forget an object; returns what was there. A deletion also ends the wait for our own write."""
        self._own_writes.pop(key, None)
        old = self._objects.pop(key, None)
        if old is not None:
            self._unindex(key, old)
        if self._fingerprints is not None:
            self._fingerprints.pop(key, None)
        return old

    def _unindex(self, key: str, obj: T) -> None:
        for name, function in self._functions.items():
            index = self._indexes[name]
            for value in function(obj):
                left = _without(index.get(value, ()), key)
                if left:
                    index[value] = left
                else:
                    index.pop(value, None)


def _version(obj: Any) -> str:
    if isinstance(obj, dict):
        return str(obj.get("metadata", {}).get("resourceVersion", ""))
    return str(obj.metadata.resourceVersion)


def key_of(obj: Any) -> str:
    """The key of a Struct or a plain dict."""
    if isinstance(obj, dict):
        metadata = obj.get("metadata", {})
        return object_key(metadata.get("namespace", ""), metadata.get("name", ""))
    return object_key(obj.metadata.namespace, obj.metadata.name)
