"""AKS as a provider: a claim is an agent pool of one machine, and the pool's name is the claim's.

AKS works on few pools of one cluster at a time and refuses the rest: so only so many are asked for at once, and a
refusal that comes all the same is waited out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from kaito.api.core import Node
from kaito.nodes.claim import Claim
from kaito.nodes.errors import Busy, NotFound, ProviderError
from kaito.nodes.providers.azure.config import AzureConfig
from kaito.nodes.providers.azure.faults import Asked, Fault, classify
from kaito.nodes.providers.azure.pool import is_ours, render_pool, to_instance
from kaito.nodes.providers.base import Instance, InstanceState

LABEL_POOL = "agentpool"
LABEL_POOL_LONG = "kubernetes.azure.com/agentpool"


class Pools(Protocol):
    """The calls that the provider makes; `api.AgentPools` makes them to Azure."""

    async def put(self, asked: Asked, body: dict[str, Any]) -> tuple[dict[str, Any], str]: ...
    async def get(self, asked: Asked) -> dict[str, Any]: ...
    async def list(self) -> list[dict[str, Any]]: ...
    async def delete(self, asked: Asked) -> bool: ...
    async def operation(self, path: str, asked: Asked) -> Fault | None: ...
    async def close(self) -> None: ...


class AzureProvider:
    name = "azure"

    def __init__(self, config: AzureConfig, pools: Pools) -> None:
        self.poll_seconds = config.poll_seconds
        self._config = config
        self._pools = pools
        self._creating: set[str] = set()
        """Pools in the making, as our creates and the last list have it."""
        self._asked: dict[str, Asked] = {}
        self._errors: dict[str, ProviderError] = {}
        """Why pools failed that are still there: the list does not say."""

    async def create(self, claim: Claim) -> Instance:
        body = render_pool(claim)
        asked = Asked(claim.name, str(body["properties"]["vmSize"]), claim.is_spot)
        if len(self._creating - {claim.name}) >= self._config.max_operations:
            count = len(self._creating)
            raise Busy(f"{count} agent pools are being created; {claim.name} waits for its turn", retry_after=5.0)
        self._asked[claim.name] = asked
        self._creating.add(claim.name)
        try:
            pool, operation = await self._pools.put(asked, body)
        except Busy:
            return await self._already_accepted(claim, asked)
        except ProviderError:
            self._creating.discard(claim.name)
            raise
        return replace(to_instance(pool), operation=operation)

    async def _already_accepted(self, claim: Claim, asked: Asked) -> Instance:
        """Busy may mean that our own request of before a crash is being worked on; else it is raised again."""
        try:
            pool = await self._pools.get(asked)
        except NotFound:
            self._creating.discard(claim.name)
            raise Busy(f"AKS works on another pool before {claim.name}") from None
        return to_instance(pool)

    async def get(self, name: str) -> Instance:
        return to_instance(await self._pools.get(Asked(name)))

    async def list(self) -> list[Instance]:
        instances = [to_instance(pool) for pool in await self._pools.list() if is_ours(pool)]
        self._creating = {i.name for i in instances if i.state is InstanceState.CREATING}
        failed = {i.name for i in instances if i.state is InstanceState.FAILED}
        self._errors = {name: error for name, error in self._errors.items() if name in failed}
        return [replace(i, error=self._errors.get(i.name)) for i in instances]

    async def explain(self, name: str, operation: str) -> ProviderError | None:
        """Asked of the operation itself: the pool only says Failed."""
        asked = self._asked.get(name) or await self._asked_of(name)
        fault = await self._pools.operation(operation, asked)
        if fault is None:
            return None
        error = classify(fault, asked)
        if isinstance(error, NotFound):
            return None
        self._errors[name] = error
        return error

    async def _asked_of(self, name: str) -> Asked:
        """What a former process asked for, as the pool has it."""
        return Asked(name, (await self.get(name)).instance_type)

    async def delete(self, name: str) -> None:
        if not await self._pools.delete(Asked(name)):
            raise NotFound(f"agent pool {name} is gone")
        self._creating.discard(name)

    def claim_name(self, node: Node) -> str:
        """AKS labels each node with its pool, twice; both must agree."""
        pool = node.metadata.labels.get(LABEL_POOL, "")
        return pool if pool == node.metadata.labels.get(LABEL_POOL_LONG) and node.spec.providerID else ""

    async def run(self) -> None:
        """AKS does the rest."""

    async def close(self) -> None:
        await self._pools.close()


def connect(config: AzureConfig) -> AzureProvider:
    """The provider over the Azure SDK. Raises ImportError where the extra is not installed."""
    from kaito.nodes.providers.azure.api import AgentPools

    return AzureProvider(config, AgentPools(config))
