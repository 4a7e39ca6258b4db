"""Claims on AKS from beginning to end: the provisioner, the embedded API server, and Azure on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kaito.api.crds import node_claim_crd
from kaito.kube.client import Client
from kaito.kube.resources import CRDS, MACHINES, NODE_CLAIMS, NODE_CLAIMS_V1BETA1, NODES, Resource
from kaito.nodes.providers.azure.config import AzureConfig
from kaito.nodes.providers.azure.provider import connect
from kaito.nodes.provisioner import ProvisionerConfig
from tests.nodes.fake_arm import Answer, FakeArm, error_body, serving
from tests.nodes.world import World, eventually, provisioning
from tests.support.cluster import Cluster

QUOTA = error_body(
    "InvalidTemplateDeployment",
    "see details",
    [
        {
            "code": "QuotaExceeded",
            "message": "exceeding approved standardNCSv3Family Cores quota. Additional details - Location: eastus, "
            "Current Limit: 12, Current Usage: 10, Additional Required: 6, (Minimum) New Limit Required: 16.",
        }
    ],
)
BRISK = ProvisionerConfig(orphan_grace=timedelta(0), list_every=timedelta(seconds=0.2))


@dataclass
class Aks:
    """The cluster and the cloud under it: pools bring nodes as AKS does."""

    world: World
    arm: FakeArm
    config: AzureConfig

    @property
    def client(self) -> Client:
        return self.world.client

    @asynccontextmanager
    async def provisioner(self, config: ProvisionerConfig = BRISK) -> AsyncIterator[None]:
        provider = connect(self.config)
        try:
            async with provisioning(self.client, provider, config):
                yield
        finally:
            await provider.close()

    async def join(self, pool: str) -> None:
        """The node of a pool that has succeeded: it joins ready, its GPUs with it."""
        name = f"aks-{pool}-12345678-vmss000000"
        group = "/subscriptions/s/resourceGroups/MC_x/providers/Microsoft.Compute/virtualMachineScaleSets"
        labels = {"agentpool": pool, "kubernetes.azure.com/agentpool": pool}
        body = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"providerID": f"azure://{group}/aks-{pool}-12345678-vmss/virtualMachines/0"},
        }
        await self.client.create(NODES, body)
        offers = {"cpu": "6", "nvidia.com/gpu": "1"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        status = {"capacity": offers, "allocatable": offers, "conditions": [ready]}
        await self.client.patch(NODES, name, {"status": status}, subresource="status")

    async def until_asked(self, what: str, count: int = 1) -> None:
        async def asked() -> bool:
            return self.arm.calls[what] >= count

        await eventually(asked, lambda: f"{what} was asked {self.arm.calls[what]} times")


@pytest_asyncio.fixture
async def aks(world: World, tmp_path: Path) -> AsyncIterator[Aks]:
    arm = FakeArm()
    async with serving(tmp_path, arm) as config:
        made = Aks(world, arm, config)
        arm.on_succeeded = made.join
        yield made


async def live_and_die(aks: Aks, resource: Resource[Any]) -> None:
    async with aks.provisioner():
        await aks.world.claim("ws1", resource)
        await aks.world.until("ws1", "Ready", "True", resource)
        claim = await aks.client.get(resource, "ws1")
        assert claim.status.nodeName == "aks-ws1-12345678-vmss000000"
        assert claim.status.providerID.startswith("azure:///subscriptions/s/")
        node = await aks.world.node("aks-ws1-12345678-vmss000000")
        assert node["metadata"]["labels"]["kaito.sh/workspace"] == "phi"
        assert aks.arm.bodies[0]["properties"]["osDiskSizeGB"] == 50
        await aks.client.delete(resource, "ws1")
        await aks.world.until_gone("ws1", resource)
        assert await aks.client.find(NODES, "aks-ws1-12345678-vmss000000") is None
    assert aks.arm.pools == {}
    assert aks.arm.calls["put"] == 1 and aks.arm.calls["delete"] == 1 and aks.arm.calls["get"] == 0


@pytest.mark.parametrize("resource", [NODE_CLAIMS, MACHINES], ids=["NodeClaim", "Machine"])
async def test_the_whole_life_of_a_claim(aks: Aks, resource: Resource[Any]) -> None:
    await live_and_die(aks, resource)


async def test_the_whole_life_of_a_v1beta1_claim(cluster: Cluster, tmp_path: Path) -> None:
    crd = node_claim_crd()
    old = [version for version in crd["spec"]["versions"] if version["name"] == "v1beta1"]
    crd["spec"]["versions"] = [{**old[0], "storage": True, "served": True}]
    arm = FakeArm()
    async with Client.connect(cluster.kubeconfig, field_manager="test") as client, serving(tmp_path, arm) as config:
        await client.create(CRDS, crd)
        aks = Aks(World(client), arm, config)
        arm.on_succeeded = aks.join
        await live_and_die(aks, NODE_CLAIMS_V1BETA1)


async def test_a_restart_while_the_pool_is_in_the_making(aks: Aks) -> None:
    aks.arm.hold = True
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until_reason("ws1", "Launched", "InstanceCreating")
    async with aks.provisioner():
        aks.arm.hold = False
        await aks.world.until("ws1", "Ready", "True")
    assert aks.arm.calls["put"] == 1


async def test_a_restart_after_the_answer_to_the_put_was_lost(aks: Aks) -> None:
    aks.arm.script("put", Answer(400, error_body("InternalOperationError", "the answer was lost"), also_accept=True))
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.until_asked("put")
    async with aks.provisioner():
        await aks.world.until("ws1", "Ready", "True")
    assert aks.arm.calls["put"] == 1


async def test_an_answer_that_was_lost_is_found_again_without_a_restart(aks: Aks) -> None:
    aks.arm.script("put", Answer(400, error_body("InternalOperationError", "the answer was lost"), also_accept=True))
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until("ws1", "Ready", "True")
    assert aks.arm.calls["put"] == 1


async def test_a_restart_between_the_node_and_ready(aks: Aks) -> None:
    aks.arm.on_succeeded = None
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until("ws1", "Launched", "True")
    await aks.join("ws1")
    async with aks.provisioner():
        await aks.world.until("ws1", "Ready", "True")
    assert aks.arm.calls["put"] == 1


async def test_a_restart_while_the_pool_is_being_deleted(aks: Aks) -> None:
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until("ws1", "Ready", "True")
        aks.arm.hold = True
        await aks.client.delete(NODE_CLAIMS, "ws1")
        await aks.until_asked("delete")
    aks.arm.hold = False
    async with aks.provisioner():
        await aks.world.until_gone("ws1", NODE_CLAIMS)
    assert aks.arm.calls["put"] == 1 and aks.arm.pools == {}


@pytest.mark.parametrize("moment", ["at once", "creating", "launched", "failed"])
async def test_deletion_at_every_step(aks: Aks, moment: str) -> None:
    aks.arm.hold = moment == "creating"
    if moment == "launched":
        aks.arm.on_succeeded = None
    if moment == "failed":
        aks.arm.fail_with = QUOTA
    async with aks.provisioner():
        await aks.world.claim("ws1")
        if moment == "creating":
            await aks.world.until_reason("ws1", "Launched", "InstanceCreating")
        elif moment == "launched":
            await aks.world.until("ws1", "Launched", "True")
        elif moment == "failed":
            await aks.world.until_reason("ws1", "Launched", "SubscriptionQuotaReached")
        await aks.client.delete(NODE_CLAIMS, "ws1")
        aks.arm.hold = False
        await aks.world.until_gone("ws1", NODE_CLAIMS)

        async def gone() -> bool:
            return not aks.arm.pools

        await eventually(gone)
    assert aks.arm.calls["put"] <= 1


async def test_a_pool_that_fails_is_explained_deleted_and_not_asked_for_again_at_once(aks: Aks) -> None:
    aks.arm.fail_with = QUOTA
    async with aks.provisioner():
        await aks.world.claim("ws1")
        message = await aks.world.until_reason("ws1", "Launched", "SubscriptionQuotaReached")
        assert "limit 12, in use 10, needed 6" in message and "16 cores of standardNCSv3Family" in message
        assert (await aks.world.conditions("ws1"))["Launched"][0] == "False"

        async def gone() -> bool:
            return not aks.arm.pools

        await eventually(gone)
        lists = aks.arm.calls["list"]
        await aks.until_asked("list", lists + 3)
        assert aks.arm.calls["put"] == 1 and aks.arm.calls["operation"] == 1
        assert any("limit 12" in text for text in await aks.world.events("SubscriptionQuotaReached"))


async def test_why_a_pool_failed_survives_a_restart(aks: Aks) -> None:
    aks.arm.hold = True
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until_reason("ws1", "Launched", "InstanceCreating")
    aks.arm.fail_with = QUOTA
    aks.arm.hold = False
    async with aks.provisioner():
        await aks.world.until_reason("ws1", "Launched", "SubscriptionQuotaReached")
    assert aks.arm.calls["put"] == 1


async def test_busy_is_waited_out(aks: Aks) -> None:
    busy = error_body("OperationNotAllowed", "Another agentpool operation (x - Creating) is in progress")
    aks.arm.script("put", Answer(409, busy))
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until_reason("ws1", "Launched", "CloudBusy")
    assert aks.arm.pools == {}


async def test_a_cluster_that_is_not_there_is_told_on_the_claim(aks: Aks) -> None:
    missing = error_body("ResourceNotFound", "The Resource 'managedClusters/aks' under resource group was not found.")
    aks.arm.script("list", *[Answer(404, missing)] * 500)
    async with aks.provisioner():
        await aks.world.claim("ws1")
        assert "Contributor" in await aks.world.until_reason("ws1", "Launched", "ResourceNotFound")
    assert aks.arm.calls["put"] == 0


async def test_a_pool_deleted_by_hand(aks: Aks) -> None:
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until("ws1", "Ready", "True")
        aks.arm.pools.clear()
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        status = {"status": {"conditions": [unknown]}}
        await aks.client.patch(NODES, "aks-ws1-12345678-vmss000000", status, subresource="status")
        await aks.world.until_gone("ws1", NODE_CLAIMS)
        assert await aks.client.find(NODES, "aks-ws1-12345678-vmss000000") is None


async def test_a_node_that_never_comes(aks: Aks) -> None:
    aks.arm.on_succeeded = None
    patient = ProvisionerConfig(registration_deadline=timedelta(0), delete_after_deadline=False)
    async with aks.provisioner(patient):
        await aks.world.claim("ws1")
        message = await aks.world.until_reason("ws1", "Registered", "RegistrationDeadlineExceeded")
        assert "did not join" in message
    async with aks.provisioner(ProvisionerConfig(registration_deadline=timedelta(0))):
        await aks.world.until_gone("ws1", NODE_CLAIMS)
    assert aks.arm.pools == {}


async def test_orphans_are_collected_but_never_after_a_list_that_failed(aks: Aks) -> None:
    properties = {
        "provisioningState": "Succeeded",
        "nodeLabels": {
            "kaito.sh/workspace": "gone",
            "karpenter.sh/nodepool": "kaito",
            "kaito.sh/creation-timestamp": "2020-01-01T00-00-00Z",
        },
    }
    for name in ("ws1", "ws2", "ws3"):
        aks.arm.pools[name] = {"name": name, "properties": dict(properties)}
    aks.arm.pools["system"] = {"name": "system", "properties": {"provisioningState": "Succeeded"}}
    failing = Answer(500, error_body("InternalServerError"))
    aks.arm.script("page", *[failing] * 12)
    async with aks.provisioner():
        await aks.until_asked("page", 8)
        assert aks.arm.calls["delete"] == 0, "half a list is no list"

        async def collected() -> bool:
            return set(aks.arm.pools) == {"system"}

        await eventually(collected)
    assert aks.arm.calls["delete"] == 3


async def test_two_kinds_of_one_name_share_no_pool(aks: Aks) -> None:
    async with aks.provisioner():
        await aks.world.claim("ws1")
        await aks.world.until("ws1", "Ready", "True")
        await aks.world.claim("ws1", MACHINES)
        await aks.world.until_reason("ws1", "MachineLaunched", "NameTaken", MACHINES)
        await aks.client.delete(MACHINES, "ws1")
        await aks.world.until_gone("ws1", MACHINES)
        assert "ws1" in aks.arm.pools
    assert aks.arm.calls["put"] == 1 and aks.arm.calls["delete"] == 0
