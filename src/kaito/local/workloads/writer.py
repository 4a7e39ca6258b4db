"""Carries plans out, and remembers what it wrote until the cache shows it.

A plan made from a cache that does not show the last plan's pods would make them again. So each parent's writes are
remembered, and the parent is left alone until they are seen; the events that show them wake it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from kaito.api.meta import ObjectMeta
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, ApiError, NotFound, Retryable
from kaito.kube.events import Reference
from kaito.kube.resources import Resource
from kaito.kube.store import Store, object_key
from kaito.local.workloads.announcer import Announcer
from kaito.local.workloads.informers import Informers
from kaito.local.workloads.plan import Action, Announce, Create, Delete, Patch, Plan

PATIENCE = 10.0
"""Seconds after which an unseen deletion is no longer waited for: the watch may have been cut just then."""
CREATED_EVENTS = {"Pod": "pod", "PersistentVolumeClaim": "claim"}


@dataclass(frozen=True)
class _Unseen:
    store: Store[Any]
    key: str
    deleted_uid: str = ""
    until: float = 0.0

    def is_unseen(self, now: float) -> bool:
        if not self.deleted_uid:
            return self.store.is_behind(self.key)
        cached = self.store.get(self.key)
        if cached is None or cached.metadata.uid != self.deleted_uid or cached.metadata.deletionTimestamp:
            return False
        return now < self.until


class Writer:
    """Acts for one controller; `parent` is the key of what it reconciles."""

    def __init__(self, client: Client, informers: Informers, announcer: Announcer) -> None:
        self._client = client
        self._informers = informers
        self._announcer = announcer
        self._unseen: dict[str, list[_Unseen]] = {}

    def is_behind(self, parent: str) -> bool:
        """Whether the cache does not yet show what was last written for this parent."""
        now = asyncio.get_running_loop().time()
        unseen = [write for write in self._unseen.pop(parent, ()) if write.is_unseen(now)]
        if unseen:
            self._unseen[parent] = unseen
        return bool(unseen)

    async def act(self, parent: str, about: Reference, plan: Plan) -> None:
        """Pods first, all at once; then the patches in their order. Raises the first KubeError when all are through."""
        children = [a for a in plan.actions if isinstance(a, Create | Delete)]
        outcomes = await asyncio.gather(*(self._act(parent, about, a) for a in children), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        for action in plan.actions:
            if not isinstance(action, Create | Delete):
                await self._act(parent, about, action)

    async def _act(self, parent: str, about: Reference, action: Action) -> None:
        match action:
            case Create():
                await self._create(parent, about, action)
            case Delete():
                await self._delete(parent, action)
            case Patch():
                await self._patch(parent, action)
            case Announce():
                self._announcer.announce(about, action)

    async def _create(self, parent: str, about: Reference, action: Create) -> None:
        try:
            made = await self._client.create(action.resource, action.body, action.namespace)
        except AlreadyExists as error:
            if not action.if_absent:
                raise Retryable(f"{action.resource.kind} is in the way: {error.message}") from error
            made = await self._client.get(action.resource, action.body["metadata"]["name"], action.namespace)
            self._remember(parent, action.resource, made.metadata)
            return
        except ApiError as error:
            self._announcer.announce(about, Announce("FailedCreate", f"Error creating: {error.message}", "Warning"))
            raise
        self._remember(parent, action.resource, made.metadata)
        event = created_event(action, made.metadata.name)
        if event:
            self._announcer.announce(about, event)

    async def _delete(self, parent: str, action: Delete) -> None:
        name, namespace = action.name, action.namespace
        await self._client.delete(action.resource, name, namespace, uid=action.uid, propagation=action.propagation)
        until = asyncio.get_running_loop().time() + PATIENCE
        store = self._informers.of(action.resource).store
        self._unseen.setdefault(parent, []).append(_Unseen(store, object_key(namespace, name), action.uid, until))

    async def _patch(self, parent: str, action: Patch) -> None:
        try:
            patched = await self._client.patch(
                action.resource, action.name, action.body, action.namespace, subresource=action.subresource
            )
        except NotFound:
            return  # Gone meanwhile; its deletion is on its way to us.
        self._remember(parent, action.resource, patched.metadata)

    def _remember(self, parent: str, resource: Resource[Any], metadata: ObjectMeta) -> None:
        store, key = self._informers.of(resource).store, object_key(metadata.namespace, metadata.name)
        store.observe_own_write(key, metadata.resourceVersion)
        self._unseen.setdefault(parent, []).append(_Unseen(store, key))


def created_event(action: Create, name: str) -> Announce | None:
    """As Kubernetes tells it: of a new ReplicaSet, how far it was scaled."""
    if action.resource.kind == "ReplicaSet":
        replicas = (action.body.get("spec") or {}).get("replicas", 1)
        return Announce("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {replicas}")
    kind = CREATED_EVENTS.get(action.resource.kind)
    return Announce("SuccessfulCreate", f"Created {kind}: {name}") if kind else None


def reference(resource: Resource[Any], metadata: ObjectMeta) -> Reference:
    return Reference(resource.api_version, resource.kind, metadata.name, metadata.uid, metadata.namespace)
