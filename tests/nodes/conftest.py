"""Fixtures of the provisioner's tests: a cluster that has Karpenter's kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.nodes.world import World, connected
from tests.support.cluster import Cluster


@pytest_asyncio.fixture
async def world(cluster: Cluster) -> AsyncIterator[World]:
    async with connected(cluster.kubeconfig) as made:
        yield made
