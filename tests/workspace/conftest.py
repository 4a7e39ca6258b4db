"""An operator in the test's own loop, against the embedded API server, with a scripted node side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaito.kube.client import Client
from kaito.kube.resources import CRDS, untyped
from kaito.workspace.operator import Operator, OperatorConfig
from tests.support.cluster import Cluster
from tests.support.either_cluster import CRDS_OF_TESTS, cluster, real_cluster
from tests.support.real_cluster import RealCluster
from tests.workspace.node_side import SECRETS, WORKSPACES, NodeSide, until

__all__ = ["cluster", "real_cluster", "stage"]

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


@pytest.fixture
async def stage(cluster: Cluster | RealCluster) -> AsyncIterator[Stage]:
    async with Client.connect(cluster.kubeconfig, field_manager="test") as user:
        for crd in CRDS_OF_TESTS:
            await user.create_if_absent(CRDS, crd)
        async with Client.connect(cluster.kubeconfig, field_manager="node-side") as other:
            running = Stage(cluster, user, NodeSide(other))
            yield running
            await running.stop()
