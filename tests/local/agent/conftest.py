"""A bench per test: API server, client and agent."""

from collections.abc import AsyncIterator

import pytest

from kaito.kube.client import Client
from tests.local.agent.bench import Bench
from tests.support.cluster import Cluster


@pytest.fixture
async def bench(cluster: Cluster) -> AsyncIterator[Bench]:
    async with Client.connect(cluster.kubeconfig) as client:
        made = Bench(cluster, client)
        await made.start_agent()
        yield made
        await made.stop()
