"""Garbage collection by owner references, as Kubernetes does it: background, foreground and orphan.

An object goes when none of its owners is there any more. An owner that is deleted in the foreground stays until the
dependents that block it are gone; one that is deleted with `orphan` first lets its dependents go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kaito.api.meta import ObjectMeta, OwnerReference
from kaito.local.workloads.graph import FOREGROUND, ORPHAN, Item
from kaito.local.workloads.plan import Action, Delete, Patch


class Owner(Enum):
    """What became of an owner."""

    SOLID = "there, and staying"
    WAITING = "deleted in the foreground, waiting for its dependents"
    ABSENT = "gone, or another object by the same name"


@dataclass(frozen=True)
class Observed:
    item: Item
    owners: Mapping[str, Owner]
    """By uid; for an item that is not being deleted, all that its references name."""
    dependents: Sequence[Item]


def plan_collection(observed: Observed) -> tuple[Action, ...]:
    item = observed.item
    if not item.is_deleting:
        return _collect(observed) if item.metadata.ownerReferences else ()
    if ORPHAN in item.metadata.finalizers:
        releases = [_drop_owners(d, {item.metadata.uid}) for d in observed.dependents]
        return (*releases, _drop_finalizer(item, ORPHAN))
    if FOREGROUND in item.metadata.finalizers and not any(_blocks(d, item) for d in observed.dependents):
        return (_drop_finalizer(item, FOREGROUND),)
    return ()


def _collect(observed: Observed) -> tuple[Action, ...]:
    item, owners = observed.item, observed.owners
    leaving = {uid for uid, state in owners.items() if state is not Owner.SOLID}
    if len(leaving) < len(owners):
        return (_drop_owners(item, leaving),) if leaving else ()
    waiting = Owner.WAITING in owners.values()
    return (_delete(item, _propagation(item.metadata, in_foreground=waiting and bool(observed.dependents))),)


def _propagation(metadata: ObjectMeta, *, in_foreground: bool) -> str:
    if in_foreground or FOREGROUND in metadata.finalizers:
        return "Foreground"
    return "Orphan" if ORPHAN in metadata.finalizers else "Background"


def _blocks(dependent: Item, owner: Item) -> bool:
    return any(r.uid == owner.metadata.uid and r.blockOwnerDeletion for r in dependent.metadata.ownerReferences)


def _delete(item: Item, propagation: str) -> Delete:
    metadata = item.metadata
    return Delete(item.resource, metadata.namespace, metadata.name, metadata.uid, propagation)


def _drop_owners(item: Item, uids: set[str]) -> Patch:
    kept = [_owner_body(owner) for owner in item.metadata.ownerReferences if owner.uid not in uids]
    return _patch(item, {"ownerReferences": kept or None})


def _owner_body(owner: OwnerReference) -> dict[str, Any]:
    body: dict[str, Any] = {
        "apiVersion": owner.apiVersion,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": owner.controller,
        "blockOwnerDeletion": owner.blockOwnerDeletion,
    }
    return {key: value for key, value in body.items() if value is not None}


def _drop_finalizer(item: Item, finalizer: str) -> Patch:
    return _patch(item, {"finalizers": [f for f in item.metadata.finalizers if f != finalizer] or None})


def _patch(item: Item, metadata: dict[str, Any]) -> Patch:
    """With the version that was decided on: a conflict means to look again."""
    seen = {"uid": item.metadata.uid, "resourceVersion": item.metadata.resourceVersion}
    return Patch(item.resource, item.metadata.namespace, item.metadata.name, {"metadata": {**seen, **metadata}})
