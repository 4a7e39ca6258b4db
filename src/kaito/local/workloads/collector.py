"""Runs garbage collection and namespace deletion over every kind that the server offers, new CRDs as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from kaito.api.meta import OwnerReference
from kaito.kube.controller import Controller
from kaito.kube.errors import NotFound
from kaito.kube.resources import CRDS, Resource
from kaito.local.workloads.controllers import World
from kaito.local.workloads.discovery import Served, discover
from kaito.local.workloads.garbage import Observed, Owner, plan_collection
from kaito.local.workloads.graph import Graph, Item
from kaito.local.workloads.plan import Action, Delete, Patch
from kaito.local.workloads.resources import NAMESPACES

SYNC_SECONDS = 30.0
"""How long one kind may keep the others from being collected."""
NAMESPACE_FINALIZER = "kubernetes"


class Collector:
    """Three queues over one graph: kinds (discovery), objects by uid, namespaces by name."""

    def __init__(self, world: World) -> None:
        self._client = world.client
        self._informers = world.informers
        self._graph = Graph()
        self._served = Served({}, {})
        self._started = asyncio.Event()
        self._kinds = Controller("discovery", self._discover, workers=1)
        self._objects = Controller("garbage", self._collect, workers=8)
        self._namespaces = Controller("namespaces", self._empty_namespace)
        self._kinds.watch(world.informers.of(CRDS), lambda _: ("served",))
        self._namespaces.watch(world.informers.of(NAMESPACES))
        self._kinds.queue.add("served")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kinds.run())
            await self._started.wait()  # An owner of a kind that was not listed yet would look absent.
            group.create_task(self._objects.run())
            group.create_task(self._namespaces.run())

    async def _discover(self, _: str) -> float | None:
        found = await discover(self._client)
        gone = self._served.resources.keys() - found.resources.keys()
        new = found.resources.keys() - self._served.resources.keys()
        self._served = found
        for group, plural in gone:
            self._informers.stop(group, plural)
            for item in self._graph.of_kind(group, plural):
                self._queue(self._graph.remove(item.metadata.uid))
        followed = [self._follow(found.resources[key]) for key in sorted(new)]
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                for informer in followed:
                    await informer.wait_synced()
        except TimeoutError:
            pass  # A kind that cannot be listed must not stop collection of the others; owners are checked live.
        self._started.set()
        return None

    def _follow(self, resource: Resource[Any]) -> Any:
        informer = self._informers.of(resource)
        changed = self._listener(resource)
        informer.listen(changed)
        for obj in informer.store.values():
            changed(None, obj)
        return informer

    def _listener(self, resource: Resource[Any]) -> Callable[[Any, Any], None]:
        def changed(old: Any, new: Any) -> None:
            if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
                self._queue(self._graph.remove(old.metadata.uid))
            if new is not None:
                self._queue(self._graph.put(Item(resource, new.metadata)))
            elif resource.namespaced:
                self._wake_namespace(old.metadata.namespace)

        return changed

    def _queue(self, uids: set[str]) -> None:
        for uid in uids:
            self._objects.queue.add(uid)

    def _wake_namespace(self, name: str) -> None:
        namespace = self._informers.of(NAMESPACES).store.get(name)
        if namespace is not None and namespace.metadata.deletionTimestamp:
            self._namespaces.queue.add(name)

    async def _collect(self, uid: str) -> float | None:
        item = self._graph.get(uid)
        if item is None:
            return None
        owners = {}
        if not item.is_deleting:
            owners = {owner.uid: await self._state(item, owner) for owner in item.metadata.ownerReferences}
        for action in plan_collection(Observed(item, owners, self._graph.dependents(uid))):
            await self._act(action)
        return None

    async def _state(self, item: Item, owner: OwnerReference) -> Owner:
        """From the graph; absence is asked of the server, because the owner may be newer than what we have seen."""
        known = self._graph.get(owner.uid)
        if known is not None:
            if known.resource.namespaced and known.metadata.namespace != item.metadata.namespace:
                return Owner.ABSENT  # Owners are of the same namespace, or of none.
            return Owner.WAITING if known.awaits_dependents else Owner.SOLID
        resource = self._served.find(owner.apiVersion, owner.kind)
        if resource is None:
            return Owner.SOLID  # Of a kind that nobody serves nothing is known; then nothing is deleted.
        live = await self._client.find(resource, owner.name, item.metadata.namespace if resource.namespaced else "")
        return Owner.SOLID if live is not None and live.metadata.uid == owner.uid else Owner.ABSENT

    async def _act(self, action: Action) -> None:
        match action:
            case Delete():
                await self._client.delete(
                    action.resource,
                    action.name,
                    action.namespace,
                    uid=action.uid,
                    propagation=action.propagation,
                )
            case Patch():
                try:
                    await self._client.patch(action.resource, action.name, action.body, action.namespace)
                except NotFound:
                    return
            case _:
                raise AssertionError(f"not an action of garbage collection: {action}")

    async def _empty_namespace(self, name: str) -> float | None:
        """Delete what a terminating namespace holds; when it holds nothing, let it go."""
        namespace = self._informers.of(NAMESPACES).store.get(name)
        if namespace is None or not namespace.metadata.deletionTimestamp:
            return None
        if NAMESPACE_FINALIZER not in namespace.spec.get("finalizers", ()):
            return None
        left = self._graph.in_namespace(name) or await self._list(name)
        for item in left:
            if not item.is_deleting:
                metadata = item.metadata
                await self._client.delete(item.resource, metadata.name, name, uid=metadata.uid)
        if not left:
            await self._finalize(name)
        return None

    async def _list(self, namespace: str) -> list[Item]:
        """What the server has there now: the graph may not know the newest."""
        items = []
        for resource in self._served.resources.values():
            if resource.namespaced:
                listing = await self._client.list(resource, namespace)
                items += [Item(resource, obj.metadata) for obj, _ in listing.items]
        return items

    async def _finalize(self, name: str) -> None:
        path = NAMESPACES.path("", name)
        try:
            body = msgspec.json.decode(await self._client.request("get", "GET", path))
            body["spec"] = {"finalizers": [f for f in body["spec"]["finalizers"] if f != NAMESPACE_FINALIZER]}
            await self._client.request("finalize", "PUT", f"{path}/finalize", {}, body)
        except NotFound:
            return
