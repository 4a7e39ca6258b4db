"""The two controllers together on the embedded control plane: they meet in nothing but Karpenter's objects.

The workload controllers and the scheduler are the real ones; the cloud is simulated, and so are the kubelets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from kaito.api.crds import machine_crd, node_claim_crd, node_pool_crd, workspace_crd
from kaito.kube.client import Client
from kaito.kube.resources import CRDS, NODE_CLAIMS, NODES, Resource, untyped
from kaito.local.scheduler import run_scheduler
from kaito.local.workloads import run_workloads
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import Scenario, parse_scenario
from kaito.nodes.provisioner import Provisioner, ProvisionerConfig
from kaito.workspace.operator import Operator, OperatorConfig
from tests.local.kubelet import Kubelet
from tests.nodes.world import eventually
from tests.support.cluster import Cluster

WORKSPACES = untyped("kaito.sh", "v1beta1", "workspaces", "Workspace", True)
LEFT_BEHIND: tuple[Resource[Any], ...] = (
    WORKSPACES,
    NODE_CLAIMS,
    NODES,
    untyped("", "v1", "pods", "Pod", True),
    untyped("", "v1", "services", "Service", True),
    untyped("", "v1", "configmaps", "ConfigMap", True),
    untyped("apps", "v1", "deployments", "Deployment", True),
    untyped("apps", "v1", "replicasets", "ReplicaSet", True),
)
QUICK = {"create": 0.1, "node": 0.05, "ready": 0.05, "gpus": 0.05, "delete": 0.1}


def inference(name: str, instance_type: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "resource": {"instanceType": instance_type, "labelSelector": {"matchLabels": {"app": name}}},
        "inference": {"preset": {"name": "tiny-phi-3"}},
    }


@dataclass
class House:
    """A cluster in which both controllers run."""

    user: Client
    cloud: SimulatedCloud

    async def apply(self, name: str, instance_type: str = "Standard_NC6s_v3") -> None:
        await self.user.create(WORKSPACES, inference(name, instance_type), "default")

    async def condition(self, name: str, type_: str) -> dict[str, Any]:
        found = await self.user.find(WORKSPACES, name, "default")
        listed = (found or {}).get("status", {}).get("conditions", [])
        return next((c for c in listed if c["type"] == type_), {})

    async def until(self, name: str, type_: str, status: str, reason: str = "") -> dict[str, Any]:
        seen: dict[str, Any] = {}

        async def reached() -> bool:
            seen.update(await self.condition(name, type_))
            return seen.get("status") == status and reason in ("", seen.get("reason"))

        try:
            await eventually(reached, lambda: f"{name} has {seen}, not {type_}={status} {reason}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.claims_of(name)}") from None
        return seen

    async def claims_of(self, name: str) -> str:
        """What the claims of a Workspace say, for a test that failed."""
        listed = [claim for claim, _ in (await self.user.list(NODE_CLAIMS)).items]
        owned = [claim for claim in listed if claim.metadata.labels.get("kaito.sh/workspace") == name]
        said = (
            f"{c.metadata.name} {x.type}={x.status} {x.reason} {x.message}" for c in owned for x in c.status.conditions
        )
        return "\n".join(said)

    async def until_bare(self) -> None:
        """Nothing is left of anything, in the API and in the cloud."""
        left: list[str] = []

        async def bare() -> bool:
            left[:] = [machine.instance.name for machine in self.cloud.machines()]
            for resource in LEFT_BEHIND:
                left.extend(f"{resource.kind} {_name(item)}" for item, _ in (await self.user.list(resource)).items)
            return not [one for one in left if one not in OF_THE_CLUSTER]

        await eventually(bare, lambda: f"left behind: {left}")


OF_THE_CLUSTER = {
    "Service kubernetes",
    "ConfigMap kube-root-ca.crt",
    "ConfigMap kube-apiserver-legacy-service-account-token-tracking",
}


def _name(item: Any) -> str:
    return str(item["metadata"]["name"] if isinstance(item, dict) else item.metadata.name)


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    broken = [e for e in ended if isinstance(e, Exception)]
    assert not broken, broken


@asynccontextmanager
async def house(cluster: Cluster, scenario: Scenario, config: ProvisionerConfig) -> AsyncIterator[House]:
    names = ("test", "kaito-workspace", "kaito-provisioner", "kubelet", "kube-controller-manager")
    clients: list[Client] = [Client.connect(cluster.kubeconfig, field_manager=name) for name in names]
    user, operator, provisioner, kubelet, machinery = clients
    cloud = SimulatedCloud(scenario)
    try:
        for crd in (workspace_crd(), node_claim_crd(), machine_crd(), node_pool_crd()):
            await user.create_if_absent(CRDS, crd)
        async with running(
            run_workloads(machinery),
            run_scheduler(machinery),
            Operator(operator, OperatorConfig()).run(),
            Provisioner(provisioner, SimulatedProvider(kubelet, cloud), config).run(),
        ):
            yield House(user, cloud)
    finally:
        for client in clients:
            await client.close()


@pytest_asyncio.fixture
async def calm(cluster: Cluster) -> AsyncIterator[House]:
    weather = parse_scenario({"delays": QUICK, "pollSeconds": 0.05}, "calm")
    async with house(cluster, weather, ProvisionerConfig(list_every=timedelta(seconds=0.5))) as made:
        yield made


async def test_apply_node_ready_delete_and_nothing_is_left(calm: House) -> None:
    await calm.apply("served")
    await calm.until("served", "NodesReady", "True")
    ((claim, _),) = (await calm.user.list(NODE_CLAIMS)).items
    kubelet = Kubelet(calm.user, node=claim.status.nodeName)
    async with running(kubelet.informer.run(), kubelet.controller.run()):
        await calm.until("served", "WorkspaceReady", "True")
        found = await calm.user.get(WORKSPACES, "served", "default")
        assert found["status"]["workerNodes"] == [claim.status.nodeName]
        await calm.user.delete(WORKSPACES, "served", "default")
        await calm.until_bare()
    assert calm.cloud.calls["create"] == 1 and calm.cloud.calls["delete"] == 1


async def test_a_machine_that_dies_is_replaced_and_the_workspace_comes_back(calm: House) -> None:
    await calm.apply("served")
    await calm.until("served", "NodesReady", "True")
    ((claim, _),) = (await calm.user.list(NODE_CLAIMS)).items
    calm.cloud.vanish(claim.metadata.name)

    async def replaced() -> bool:
        listed = (await calm.user.list(NODE_CLAIMS)).items
        return len(listed) == 1 and listed[0][0].metadata.uid != claim.metadata.uid

    await eventually(replaced)
    await calm.until("served", "NodesReady", "True")
    assert calm.cloud.calls["create"] == 2


TEN_FAULTS: list[tuple[str, str, str, str, str]] = [
    # fault, instance type, reason on the Workspace, words of its message, words of its hint
    ("quota", "Standard_NC6s_v3", "SubscriptionQuotaReached", "limit 24", "quota"),
    ("no-capacity", "Standard_NC12s_v3", "ZonalAllocationFailed", "is free in this zone", "zone"),
    ("not-offered", "Standard_NC24s_v3", "SkuNotAvailable", "not offered in this region", "region"),
    ("invalid", "Standard_NC4as_T4_v3", "InvalidSpec", "refuses the specification", "instance type"),
    ("busy", "Standard_NC8as_T4_v3", "CloudBusy", "another operation", "by itself"),
    ("throttled", "Standard_NC16as_T4_v3", "Throttled", "throttles", "by itself"),
    ("unauthorized", "Standard_NC64as_T4_v3", "AuthorizationFailed", "may not create", "role"),
    ("fails-late", "Standard_NC24ads_A100_v4", "ZonalAllocationFailed", "found no machine", "another zone"),
    ("never-registers", "Standard_NC48ads_A100_v4", "RegistrationDeadlineExceeded", "did not join", "another machine"),
    ("never-ready", "Standard_NC96ads_A100_v4", "NodeNotReady", "is not ready", "describe node"),
    ("no-gpus", "Standard_ND96asr_v4", "ResourceNotRegistered", "nvidia.com/gpu", "device plugin"),
    ("stuck", "Standard_ND96amsr_A100_v4", "InstanceCreating", "being created", "some minutes"),
]


@pytest.fixture
def bad_week() -> Scenario:
    faults = [{"fault": fault, "instanceType": kind} for fault, kind, *_ in TEN_FAULTS]
    return parse_scenario({"delays": QUICK, "pollSeconds": 0.05, "faults": faults}, "bad week")


async def test_each_fault_of_a_bad_week_is_named_in_its_workspace(
    cluster: Cluster, bad_week: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shown as a table of fault, reason and message; every one with a way out."""
    config = ProvisionerConfig(registration_deadline=timedelta(seconds=2), delete_after_deadline=False)
    rows: list[tuple[str, str, str]] = []
    async with house(cluster, bad_week, config) as made:
        for fault, kind, *_ in TEN_FAULTS:
            await made.apply(fault, kind)
        for fault, _, reason, message, hint in TEN_FAULTS:
            said = await made.until(fault, "ResourceReady", "False", reason)
            rows.append((fault, said["reason"], said["message"]))
            assert message in said["message"] and hint in said["message"], said
    with capsys.disabled():
        print()
        for fault, reason, text in rows:
            print(f"{fault:16} {reason:28} {text}")
