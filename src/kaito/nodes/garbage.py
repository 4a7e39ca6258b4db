"""Garbage collection: instances that no claim stands behind. Claims without an instance are the lifecycle's.

Only a complete list leads here, and each claim's absence is asked of the API server itself before anything is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta

from kaito.api.karpenter import NodeClaim
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.kube.resources import Resource
from kaito.nodes.errors import NotFound, ProviderError
from kaito.nodes.instances import Instances
from kaito.nodes.providers.base import Instance, InstanceState, Provider

log = logging.getLogger(__name__)


def plan_garbage(
    instances: Iterable[Instance],
    claims: Mapping[str, Collection[str]],
    now: datetime,
    grace: timedelta,
) -> list[Instance]:
    """Instances to delete. `claims` has the names of all living claims for each kind that is watched.

    An instance of a kind that nobody watches is left alone, and so is one younger than `grace`: its claim may be in
    the API and not yet here.
    """
    every_name = {name for names in claims.values() for name in names}
    return [i for i in instances if _is_orphan(i, claims, every_name) and _is_old(i, now, grace)]


def _is_orphan(instance: Instance, claims: Mapping[str, Collection[str]], every_name: Collection[str]) -> bool:
    if instance.state is InstanceState.DELETING or instance.name in every_name:
        return False
    return not instance.claim_kind or instance.claim_kind in claims


def _is_old(instance: Instance, now: datetime, grace: timedelta) -> bool:
    return instance.created_at is not None and now - instance.created_at >= grace


class GarbageCollector:
    """Deletes orphans after each complete list."""

    def __init__(
        self,
        client: Client,
        provider: Provider,
        instances: Instances,
        resources: Mapping[str, Resource[NodeClaim]],
        names: Callable[[], Mapping[str, Collection[str]]],
        grace: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._provider = provider
        self._instances = instances
        self._resources = resources
        self._names = names
        self._grace = grace
        self._now = now

    async def collect(self) -> None:
        for orphan in plan_garbage(self._instances.all(), self._names(), self._now(), self._grace):
            try:
                await self._collect_one(orphan)
            except (ProviderError, KubeError) as error:
                log.warning("orphan not deleted", extra={"instance": orphan.name, "error": str(error)})

    async def _collect_one(self, orphan: Instance) -> None:
        for resource in self._resources.values():
            if await self._client.find(resource, orphan.name) is not None:
                return
        log.info("instance without a claim is deleted", extra={"instance": orphan.name})
        try:
            await self._provider.delete(orphan.name)
        except NotFound:
            self._instances.forget(orphan.name)
        else:
            self._instances.note_deleting(orphan.name)
