"""The provider in front of the simulated cloud, and the kubelets of its machines."""

from __future__ import annotations

from kaito.api.core import Node
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.kube.resources import NODES
from kaito.nodes.claim import Claim
from kaito.nodes.errors import ProviderError, Transient
from kaito.nodes.providers.base import Instance
from kaito.nodes.providers.nodes import to_instance
from kaito.nodes.providers.simulated.cloud import PREFIX, SimulatedCloud
from kaito.nodes.providers.simulated.kubelet import Kubelets


class SimulatedProvider:
    name = "simulated"

    def __init__(self, client: Client, cloud: SimulatedCloud) -> None:
        self.cloud = cloud
        self.poll_seconds = cloud.scenario.poll_seconds
        self._client = client
        self._kubelets = Kubelets(client, cloud)
        self._recovered = False

    async def create(self, claim: Claim) -> Instance:
        return self.cloud.create(claim)

    async def get(self, name: str) -> Instance:
        return self.cloud.get(name)

    async def list(self) -> list[Instance]:
        if not self._recovered:
            await self._recover()
        return self.cloud.list()

    async def explain(self, name: str, operation: str) -> ProviderError | None:
        return None  # the instance itself carries its error

    async def delete(self, name: str) -> None:
        self.cloud.delete(name)

    def claim_name(self, node: Node) -> str:
        return node.spec.providerID.removeprefix(PREFIX) if node.spec.providerID.startswith(PREFIX) else ""

    async def run(self) -> None:
        await self._kubelets.run()

    async def close(self) -> None:
        self.cloud.close()

    async def _recover(self) -> None:
        """The cloud lives in memory: after a restart it is built again from the nodes that it had brought."""
        try:
            listing = await self._client.list(NODES)
        except KubeError as error:
            raise Transient(f"the simulated cloud cannot see its nodes: {error}") from error
        for node, _ in listing.items:
            if self.claim_name(node):
                self.cloud.recover(to_instance(node))
        self._recovered = True
