"""Who owns whom, over all kinds: fed by the informers, asked by the garbage collector and the namespace controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kaito.api.meta import ObjectMeta
from kaito.kube.resources import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True)
class Item:
    """One object: its kind, and its metadata as last seen."""

    resource: Resource[Any]
    metadata: ObjectMeta

    @property
    def is_deleting(self) -> bool:
        return self.metadata.deletionTimestamp is not None

    @property
    def awaits_dependents(self) -> bool:
        """Deleted in the foreground: it goes when its dependents are gone."""
        return self.is_deleting and FOREGROUND in self.metadata.finalizers


class Graph:
    """Objects by uid, and the dependents of each uid, known or not."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependents: dict[str, set[str]] = {}
        self._namespaces: dict[str, set[str]] = {}

    def get(self, uid: str) -> Item | None:
        return self._items.get(uid)

    def dependents(self, uid: str) -> list[Item]:
        items = [self._items[dependent] for dependent in self._dependents.get(uid, ())]
        return sorted(items, key=lambda item: (item.resource.plural, item.metadata.namespace, item.metadata.name))

    def in_namespace(self, namespace: str) -> list[Item]:
        return [self._items[uid] for uid in sorted(self._namespaces.get(namespace, ()))]

    def of_kind(self, group: str, plural: str) -> list[Item]:
        return [i for i in self._items.values() if (i.resource.group, i.resource.plural) == (group, plural)]

    def put(self, item: Item) -> set[str]:
        """Take in an object as it is now. Returns the uids that must be looked at."""
        uid = item.metadata.uid
        old = self._items.get(uid)
        if old is not None and _gist(old) == _gist(item):
            self._items[uid] = item
            return set()
        if old is not None:
            self._unlink(old)
        self._items[uid] = item
        self._namespaces.setdefault(item.metadata.namespace, set()).add(uid)
        for owner in item.metadata.ownerReferences:
            self._dependents.setdefault(owner.uid, set()).add(uid)
        affected = {uid} | self._waiting_owners(item) | (self._waiting_owners(old) if old else set())
        return affected | (self._dependents.get(uid, set()) if item.awaits_dependents else set())

    def remove(self, uid: str) -> set[str]:
        """Forget an object that is gone. Returns the uids to look at: its dependents, and who waits for it."""
        old = self._items.pop(uid, None)
        if old is None:
            return set()
        self._unlink(old)
        return self._waiting_owners(old) | self._dependents.get(uid, set())

    def _unlink(self, item: Item) -> None:
        uid = item.metadata.uid
        _discard(self._namespaces, item.metadata.namespace, uid)
        for owner in item.metadata.ownerReferences:
            _discard(self._dependents, owner.uid, uid)

    def _waiting_owners(self, item: Item) -> set[str]:
        owners = (self._items.get(owner.uid) for owner in item.metadata.ownerReferences)
        return {owner.metadata.uid for owner in owners if owner is not None and owner.awaits_dependents}


def _gist(item: Item) -> tuple[Any, ...]:
    """What of an object the graph is about."""
    metadata = item.metadata
    return metadata.ownerReferences, metadata.finalizers, metadata.deletionTimestamp


def _discard(sets: dict[str, set[str]], key: str, value: str) -> None:
    members = sets.get(key)
    if members is not None:
        members.discard(value)
        if not members:
            del sets[key]
