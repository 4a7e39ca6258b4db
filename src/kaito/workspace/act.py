"""The only code that writes: it carries out a plan's actions, in their order.

Every action can be repeated, so that a crash between two of them costs nothing: the next plan has what is left.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kaito.kube.applier import Applier
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists
from kaito.kube.resources import CONFIG_MAPS, DEPLOYMENTS, JOBS, SERVICES, STATEFUL_SETS, Resource
from kaito.kube.store import Store, object_key
from kaito.workspace.actions import Action, Apply, Create, Delete, Patch
from kaito.workspace.caches import Caches

OWN_WRITE_PATIENCE = 5.0
"""Seconds to wait for the cache to show our own write, before the cache is believed as it is."""


class Actor:
    """Carries out actions, and knows for which Workspaces the caches are still behind what was written."""

    def __init__(self, client: Client, caches: Caches) -> None:
        self._client = client
        self._caches = caches
        self._applier = Applier(client)
        self._unseen: dict[str, list[tuple[Store[Any], str, float]]] = {}
        self._stores: dict[str, Store[Any]] = {
            CONFIG_MAPS.plural: caches.configs.store,
            DEPLOYMENTS.plural: caches.deployments.store,
            JOBS.plural: caches.jobs.store,
            SERVICES.plural: caches.services.store,
            STATEFUL_SETS.plural: caches.stateful_sets.store,
        }

    async def carry_out(self, key: str, action: Action) -> None:
        """Raises a KubeError when the API says no."""
        child = object_key(action.namespace, action.name)
        if isinstance(action, Delete):
            await self._client.delete(action.resource, action.name, action.namespace, uid=action.uid)
            self._caches.legacy.forget(action.uid)
            return
        store = self._store(action.resource)
        match action:
            case Apply():
                if await self._applier.write(action.resource, store, action.body, action.namespace):
                    self.remember(key, store, child)
            case Create():
                await self._create(key, store, child, action)
            case Patch():
                patched = await self._client.patch(action.resource, action.name, action.body, action.namespace)
                store.observe_own_write(child, patched.metadata.resourceVersion)
                self.remember(key, store, child)

    def is_behind(self, key: str) -> bool:
        """Whether a cache does not show yet what was written for this Workspace."""
        now = asyncio.get_running_loop().time()
        unseen = [
            (store, child, until)
            for store, child, until in self._unseen.get(key, ())
            if until > now and store.is_behind(child)
        ]
        if unseen:
            self._unseen[key] = unseen
        else:
            self._unseen.pop(key, None)
        return bool(unseen)

    def remember(self, key: str, store: Store[Any], child: str) -> None:
        until = asyncio.get_running_loop().time() + OWN_WRITE_PATIENCE
        self._unseen.setdefault(key, []).append((store, child, until))

    async def _create(self, key: str, store: Store[Any], child: str, action: Create) -> None:
        if store.get(child) is not None:
            return
        try:
            made = await self._client.create(action.resource, action.body, action.namespace)
        except AlreadyExists:
            return  # a life before this one made it; the cache will show it
        store.observe_own_write(child, made.metadata.resourceVersion)
        self.remember(key, store, child)

    def _store(self, resource: Resource[Any]) -> Store[Any]:
        known = self._stores.get(resource.plural)
        if known is not None:
            return known
        found = next((i for i in self._caches.node_objects if i.resource.plural == resource.plural), None)
        assert found is not None, f"an action on {resource.plural}, which nobody watches"
        return found.store
