"""Fixtures of the provisioner's tests: a cluster that has Karpenter's kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.nodes.world import World, connected
from tests.support.cluster import Cluster


@pytest.fixture(scope="session", autouse=True)
def loop_of_the_thread() -> Iterator[None]:
    """pytest-asyncio asks for the thread's loop, which would make one that nobody closes: here is one that is."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest_asyncio.fixture
async def world(cluster: Cluster) -> AsyncIterator[World]:
    async with connected(cluster.kubeconfig) as made:
        yield made
