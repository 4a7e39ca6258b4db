from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kaito.kube.client import Client
from tests.support.cluster import Cluster
from tests.support.either_cluster import cluster, real_cluster
from tests.support.real_cluster import RealCluster

__all__ = ["client", "cluster", "real_cluster"]

# pytest-asyncio asks for the thread's event loop after a test without one, and would make and never close another.
asyncio.set_event_loop(None)


@pytest.fixture
async def client(cluster: Cluster | RealCluster) -> AsyncIterator[Client]:
    async with Client.connect(cluster.kubeconfig, field_manager="test") as client:
        yield client
