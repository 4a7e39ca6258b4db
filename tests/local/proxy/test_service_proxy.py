"""The proxy against the embedded API server: Services that curl could reach."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kaito.kube.client import Client
from kaito.local.proxy import ServiceProxy
from kaito.local.proxy.service_proxy import ANNOTATION_BOUND_PORTS, PROXIED_SERVICES, ProxiedService, bound_ports
from kaito.local.workloads.resources import ENDPOINT_SLICES, ENDPOINTS
from tests.local.proxy.echo import ask, echo_server
from tests.local.waiting import wait_for_one
from tests.support.cluster import Cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with Client.connect(cluster.kubeconfig, field_manager="test") as client:
        yield client


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[ServiceProxy]:
    async with Client.connect(cluster.kubeconfig, field_manager="proxy") as own:
        proxy = ServiceProxy(own)
        task = asyncio.create_task(proxy.run())
        yield proxy
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def add_service(client: Client, address: str, port: int = 8080, **spec: Any) -> ProxiedService:
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    body = {"metadata": {"name": "web"}, "spec": {"clusterIP": address, "ports": ports, **spec}}
    return await client.create(PROXIED_SERVICES, body, "default")


async def add_slice(client: Client, *targets: tuple[str, int]) -> None:
    body = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address, _ in targets],
        "ports": [{"name": "http", "port": targets[0][1]}],
    }
    await client.create(ENDPOINT_SLICES, body, "default")


async def reachable(address: str, port: int, holds: Callable[[bytes], bool]) -> bytes:
    """What answers there, once it does; the proxy's work takes a moment and has no event that a client could see."""
    async with asyncio.timeout(10):
        while True:
            try:
                answer = await ask(address, port, b"x")
            except OSError:
                answer = b""
            if holds(answer):
                return answer
            await asyncio.sleep(0.01)


async def test_a_service_is_reached_and_its_endpoints_followed(client: Client, proxy: ServiceProxy) -> None:
    async with echo_server("a", "127.97.9.1", 5000) as one, echo_server("b", "127.97.9.2", 5000) as other:
        await add_service(client, "127.96.200.1")
        await add_slice(client, one, other)
        await reachable("127.96.200.1", 8080, lambda answer: answer == b"a:x")
        await reachable("127.96.200.1", 8080, lambda answer: answer == b"b:x")
        assert proxy.bound("default", "web") == {8080: ("127.96.200.1", 8080)}
        endpoints = [{"addresses": ["127.97.9.2"], "conditions": {"ready": True}}]
        await client.patch(ENDPOINT_SLICES, "web-1", {"endpoints": endpoints}, "default")
        await reachable("127.96.200.1", 8080, lambda answer: answer == b"b:x")
        await client.patch(ENDPOINT_SLICES, "web-1", {"endpoints": []}, "default")
        await reachable("127.96.200.1", 8080, lambda answer: answer == b"")
        with pytest.raises(ConnectionRefusedError):
            await ask("127.96.200.1", 8080)


async def test_endpoints_that_are_kept_by_hand(client: Client, proxy: ServiceProxy) -> None:
    async with echo_server("a", "127.97.9.3", 5000):
        await add_service(client, "127.96.200.2")
        subsets = [{"addresses": [{"ip": "127.97.9.3"}], "ports": [{"name": "http", "port": 5000}]}]
        await client.create(ENDPOINTS, {"metadata": {"name": "web"}, "subsets": subsets}, "default")
        await reachable("127.96.200.2", 8080, lambda answer: answer == b"a:x")


async def test_a_port_that_cannot_be_had_is_replaced_and_told(client: Client, proxy: ServiceProxy) -> None:
    with socket.socket() as holder:
        holder.bind(("127.96.200.3", 8080))
        holder.listen()
        await add_service(client, "127.96.200.3")
        told = await wait_for_one(
            client, PROXIED_SERVICES, "web", lambda s: ANNOTATION_BOUND_PORTS in s.metadata.annotations
        )
        assert json.loads(told.metadata.annotations[ANNOTATION_BOUND_PORTS]) == {"8080": 28080}
        assert bound_ports(told) == {8080: 28080}
        assert proxy.bound("default", "web") == {8080: ("127.96.200.3", 28080)}
        async with echo_server("a", "127.97.9.4", 5000) as target:
            await add_slice(client, target)
            await reachable("127.96.200.3", 28080, lambda answer: answer == b"a:x")


async def test_a_load_balancer_gets_its_address(client: Client, proxy: ServiceProxy) -> None:
    await add_service(client, "127.96.200.4", type="LoadBalancer")
    service = await wait_for_one(client, PROXIED_SERVICES, "web", lambda s: s.status.loadBalancer.ingress)
    assert service.status.loadBalancer.ingress[0]["ip"] == "127.96.200.4"


async def test_a_service_that_is_deleted_frees_its_port(client: Client, proxy: ServiceProxy) -> None:
    async with echo_server("a", "127.97.9.5", 5000) as target:
        await add_service(client, "127.96.200.5")
        await add_slice(client, target)
        await reachable("127.96.200.5", 8080, lambda answer: answer == b"a:x")
        await client.delete(PROXIED_SERVICES, "web", "default")
        await reachable("127.96.200.5", 8080, lambda answer: answer == b"")
        assert proxy.bound("default", "web") == {}
