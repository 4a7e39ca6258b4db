"""The workload controllers, the scheduler and one node without containers, over a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from kaito.kube.client import Client
from kaito.local.scheduler import run_scheduler
from kaito.local.workloads import run_workloads
from tests.local.kubelet import Kubelet
from tests.support.cluster import Cluster

# pytest-asyncio asks for the thread's event loop after a test without one, and would make and never close another.
asyncio.set_event_loop(None)


@dataclass
class ControlPlane:
    client: Client
    """The tests' own."""
    controllers: Client
    """What the controllers and the scheduler use: its calls are theirs."""
    kubelet: Kubelet
    group: asyncio.TaskGroup


@pytest.fixture
async def plane(cluster: Cluster) -> AsyncIterator[ControlPlane]:
    async with (
        Client.connect(cluster.kubeconfig, field_manager="test") as client,
        Client.connect(cluster.kubeconfig, field_manager="controllers") as controllers,
        asyncio.TaskGroup() as group,
    ):
        kubelet = Kubelet(client)
        await kubelet.register()
        tasks = [
            group.create_task(work)
            for work in (
                run_workloads(controllers),
                run_scheduler(controllers),
                kubelet.informer.run(),
                kubelet.controller.run(),
            )
        ]
        yield ControlPlane(client, controllers, kubelet, group)
        for task in tasks:
            task.cancel()
