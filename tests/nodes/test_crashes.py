"""The whole provisioner cut off after each of its writes, over the real API server: a new one goes on from there."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from kaito.kube.client import Client
from kaito.kube.errors import Unreachable
from kaito.kube.resources import MACHINES, NODE_CLAIMS, NODES, Resource
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import parse_scenario
from kaito.nodes.provisioner import Provisioner, ProvisionerConfig
from tests.nodes.world import World, eventually
from tests.support.cluster import Cluster

# A connection that is cut off in the middle of its handshake is left to the garbage collector by the HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

QUICK = {"create": 0.02, "node": 0.01, "ready": 0.01, "gpus": 0.01, "delete": 0.02}
BRISK = ProvisionerConfig(workers=2, list_every=timedelta(seconds=0.2))


class MortalClient(Client):
    """Loses its connection for good after so many writes. The last of them has arrived; its answer has not."""

    writes_left: float = float("inf")
    writes = 0

    async def request(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        **options: Any,
    ) -> bytes:
        if self.writes_left <= 0:
            raise Unreachable("the connection is gone")
        if method == "GET":
            return await super().request(verb, method, path, params, body, **options)
        self.writes += 1
        self.writes_left -= 1
        answer = await super().request(verb, method, path, params, body, **options)
        if self.writes_left <= 0:
            raise Unreachable("the connection broke before the answer")
        return answer


class Lives:
    """One provisioner after the other, each with its own memory; the cloud and its kubelets outlive them."""

    def __init__(self, cluster: Cluster, kubelets: Client, cloud: SimulatedCloud) -> None:
        self._cluster = cluster
        self._kubelets = kubelets
        self._cloud = cloud
        self.writes = 0

    async def live(self, until: asyncio.Task[None], *, writes: float) -> None:
        """A provisioner that is cut off after so many writes, or ends when `until` is done."""
        async with MortalClient.connect(self._cluster.kubeconfig, field_manager="kaito-provisioner") as client:
            assert isinstance(client, MortalClient)
            client.writes_left = writes
            provisioner = Provisioner(client, SimulatedProvider(self._kubelets, self._cloud), BRISK)
            running = asyncio.ensure_future(provisioner.run())
            try:
                while not until.done() and client.writes_left > 0:
                    await asyncio.wait({until}, timeout=0.02)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                self.writes += client.writes
        gc.collect()  # here, where it is expected, and not in the middle of another test


async def whole_life(world: World, name: str, resource: Resource[Any]) -> None:
    await world.claim(name, resource)
    await world.until(name, "Ready", "True", resource)
    await world.client.delete(resource, name)
    await world.until_gone(name, resource)


async def lived(cluster: Cluster, world: World, resource: Resource[Any], name: str, crash: float) -> int:
    """A claim from beginning to end with one crash; gives the writes of all provisioners together."""
    cloud = SimulatedCloud(parse_scenario({"delays": QUICK, "pollSeconds": 0.02}, "test"))
    async with Client.connect(cluster.kubeconfig, field_manager="kubelet") as kubelets:
        lives = Lives(cluster, kubelets, cloud)
        life = asyncio.ensure_future(whole_life(world, name, resource))
        try:
            await lives.live(life, writes=crash)
            await lives.live(life, writes=float("inf"))
            await life
        finally:
            life.cancel()
            cloud.close()
    assert cloud.calls["create"] == 1, (name, cloud.calls)
    assert cloud.machines() == []
    assert await world.client.find(NODES, name) is None
    return lives.writes


@pytest.mark.slow
@pytest.mark.parametrize("resource", [NODE_CLAIMS, MACHINES], ids=["NodeClaim", "Machine"])
async def test_a_provisioner_cut_off_after_any_write(cluster: Cluster, world: World, resource: Resource[Any]) -> None:
    calm = await lived(cluster, world, resource, "wscalm", float("inf"))
    assert 8 <= calm <= 14, calm
    for crash in range(1, calm + 1):
        await lived(cluster, world, resource, f"ws{crash}", crash)


async def test_a_write_whose_answer_was_lost_is_not_done_twice(cluster: Cluster, world: World) -> None:
    """The first writes: the finalizer, then what the create brought."""
    for crash in (1, 2, 3):
        await lived(cluster, world, NODE_CLAIMS, f"ws{crash}", crash)

    async def nothing_left() -> bool:
        return not (await world.client.list(NODE_CLAIMS)).items

    await eventually(nothing_left)
