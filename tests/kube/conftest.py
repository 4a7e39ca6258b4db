from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kaito.kube.client import Client
from tests.support.cluster import Cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with Client.connect(cluster.kubeconfig, field_manager="test") as client:
        yield client
