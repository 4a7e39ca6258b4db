"""An operator in the test's own loop, against the embedded API server, with a scripted node side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kaito.api.crds import machine_crd, node_claim_crd, node_pool_crd, workspace_crd
from kaito.kube.client import Client
from kaito.kube.resources import CRDS, untyped
from kaito.workspace.operator import Operator, OperatorConfig
from tests.support.cluster import Cluster
from tests.support.real_cluster import RealCluster, assets
from tests.workspace.node_side import SECRETS, WORKSPACES, NodeSide, until

CRDS_OF_TESTS = (workspace_crd(), node_claim_crd(), machine_crd(), node_pool_crd())
IN_NAMESPACE = (
    "apis/kaito.sh/v1beta1/namespaces/default/workspaces",
    *(f"apis/apps/v1/namespaces/default/{kind}" for kind in ("deployments", "statefulsets")),
    *(f"api/v1/namespaces/default/{kind}" for kind in ("pods", "configmaps", "secrets", "services", "events")),
    "apis/batch/v1/namespaces/default/jobs",
    "apis/coordination.k8s.io/v1/namespaces/default/leases",
)
OF_CLUSTER = (
    *(f"apis/karpenter.sh/{kind}" for kind in ("v1/nodepools", "v1/nodeclaims", "v1alpha5/machines")),
    "api/v1/nodes",
    "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
)


def wipe(cluster: RealCluster) -> None:
    """Remove what tests made, finalizers or not; nobody collects garbage here."""
    for path in (*OF_CLUSTER[::-1], *IN_NAMESPACE):
        for item in cluster.request("GET", f"/{path}").json().get("items") or ():
            name = item["metadata"]["name"]
            if name in ("kubernetes", "kube-root-ca.crt"):
                continue
            if item["metadata"].get("finalizers"):
                merge = {"Content-Type": "application/merge-patch+json"}
                cluster.request("PATCH", f"/{path}/{name}", {"metadata": {"finalizers": None}}, merge)
            cluster.request("DELETE", f"/{path}/{name}", {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})


Job = Callable[[], Awaitable[None]]


@dataclass
class Stage:
    """The cluster as a test sees it."""

    cluster: Cluster | RealCluster
    user: Client
    side: NodeSide
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    def play(self, job: Job) -> asyncio.Task[None]:
        task = asyncio.ensure_future(job())
        self.tasks.append(task)
        return task

    def operate(self, ahead: timedelta = timedelta(), **config: Any) -> Operator:
        """Start an operator whose clock is `ahead` of the server's; its client counts the calls it makes."""
        client = Client.connect(self.cluster.kubeconfig, field_manager="kaito-workspace")
        self.clients.append(client)
        operator = Operator(client, OperatorConfig(**config), lambda: datetime.now(UTC) + ahead)
        self.play(operator.run)
        return operator

    async def apply(self, body: dict[str, Any]) -> None:
        metadata = {k: v for k, v in body["metadata"].items() if k in ("name", "namespace", "annotations", "labels")}
        version = body["apiVersion"].partition("/")[2]
        workspaces = untyped("kaito.sh", version, "workspaces", "Workspace", True)
        await self.user.create(workspaces, {**body, "metadata": metadata}, metadata["namespace"])

    async def push_secret(self) -> None:
        body = {
            "metadata": {"name": "push"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": "e30="},
        }
        await self.user.create(SECRETS, body, "default")

    async def workspace(self, name: str) -> dict[str, Any]:
        return await self.user.get(WORKSPACES, name, "default")

    async def condition(self, name: str, kind: str) -> dict[str, Any]:
        status = (await self.workspace(name)).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == kind), {})

    async def wait(self, name: str, kind: str, *, status: str = "True", reason: str = "") -> dict[str, Any]:
        async def check() -> dict[str, Any]:
            found = await self.condition(name, kind)
            return found if found.get("status") == status and reason in ("", found.get("reason")) else {}

        try:
            return await until(check)
        except AssertionError:
            seen = await self.condition(name, kind)
            raise AssertionError(f"{kind} of {name} is {seen}, not {status} {reason}") from None

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for client in self.clients:
            await client.close()


@pytest.fixture(scope="session")
def real_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster | None]:
    """A real kube-apiserver for all tests where KUBEBUILDER_ASSETS names one; None elsewhere."""
    programs = assets()
    if programs is None:
        yield None
        return
    running = RealCluster(programs, tmp_path_factory.mktemp("real") / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, real_cluster: RealCluster | None, tmp_path: Path
) -> Iterator[Cluster | RealCluster]:
    """The real API server, wiped, where there is one; else an embedded one of this test's own."""
    if real_cluster is not None:
        if request.node.get_closest_marker("embedded"):
            pytest.skip("needs what only the embedded API server has")
        for crd in CRDS_OF_TESTS:
            real_cluster.create_crd(crd)
        wipe(real_cluster)
        yield real_cluster
        return
    running = Cluster(tmp_path / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def stage(cluster: Cluster | RealCluster) -> AsyncIterator[Stage]:
    async with Client.connect(cluster.kubeconfig, field_manager="test") as user:
        for crd in CRDS_OF_TESTS:
            await user.create_if_absent(CRDS, crd)
        async with Client.connect(cluster.kubeconfig, field_manager="node-side") as other:
            running = Stage(cluster, user, NodeSide(other))
            yield running
            await running.stop()
