"""The scheduler against the embedded API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kaito.api.core import Generic
from kaito.kube.client import Client
from kaito.local.scheduler import run_scheduler
from kaito.local.workloads.objects import condition_of
from kaito.local.workloads.resources import NODES, PODS
from tests.local.waiting import wait_for, wait_for_one
from tests.support.cluster import Cluster

GPU = "nvidia.com/gpu"


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with (
        Client.connect(cluster.kubeconfig, field_manager="test") as client,
        Client.connect(cluster.kubeconfig, field_manager="scheduler") as own,
    ):
        task = asyncio.create_task(run_scheduler(own))
        yield client
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def add_node(
    client: Client, name: str, *, taints: list[dict[str, str]] | None = None, **allocatable: str
) -> None:
    await client.create(NODES, {"metadata": {"name": name}, "spec": {"taints": taints or []}})
    offered = {"cpu": "4", "memory": "8Gi", "pods": "110", **allocatable}
    await client.patch(NODES, name, {"status": {"allocatable": offered, "capacity": offered}}, subresource="status")


async def add_pod(client: Client, name: str, requests: dict[str, str] | None = None, **spec: Any) -> None:
    container = {"name": "c", "image": "x", "resources": {"requests": requests or {}, "limits": requests or {}}}
    await client.create(PODS, {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}, "default")


def is_bound(pod: Generic) -> bool:
    return bool(pod.spec.get("nodeName"))


def message(pod: Generic) -> str:
    return str((condition_of(pod.status, "PodScheduled") or {}).get("message", ""))


async def test_a_pod_is_bound(client: Client) -> None:
    await add_node(client, "n")
    await add_pod(client, "p")
    pod = await wait_for_one(client, PODS, "p", is_bound)
    assert pod.spec["nodeName"] == "n"
    scheduled = condition_of(pod.status, "PodScheduled")
    assert scheduled is not None
    assert scheduled["status"] == "True"


async def test_a_pod_that_fits_nowhere_says_why_and_is_bound_when_a_node_comes(client: Client) -> None:
    await add_node(client, "tainted", taints=[{"key": "sku", "value": "gpu", "effect": "NoSchedule"}])
    await add_node(client, "small")
    await add_pod(client, "p", {GPU: "1"})
    told = f"0/2 nodes are available: 1 Insufficient {GPU}, 1 node(s) had untolerated taint {{sku: gpu}}."
    waiting = await wait_for_one(client, PODS, "p", lambda pod: message(pod) == told)
    assert (condition_of(waiting.status, "PodScheduled") or {})["reason"] == "Unschedulable"
    await add_node(client, "big", **{GPU: "1"})
    pod = await wait_for_one(client, PODS, "p", is_bound)
    assert pod.spec["nodeName"] == "big"


async def test_room_that_becomes_free_is_given_to_who_waits(client: Client) -> None:
    await add_node(client, "n", **{GPU: "1"})
    await add_pod(client, "first", {GPU: "1"})
    await wait_for_one(client, PODS, "first", is_bound)
    await add_pod(client, "second", {GPU: "1"})
    await wait_for_one(client, PODS, "second", message)
    await client.patch(PODS, "first", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    await wait_for_one(client, PODS, "second", is_bound)


async def test_many_pods_at_once_never_share_what_there_is_once(client: Client) -> None:
    for number in range(3):
        await add_node(client, f"n{number}", **{GPU: "2"})
    await asyncio.gather(*(add_pod(client, f"p{number}", {GPU: "1"}) for number in range(10)))
    pods = await wait_for(client, PODS, lambda pods: len(pods) == 10 and all(is_bound(p) or message(p) for p in pods))
    nodes = [pod.spec["nodeName"] for pod in pods if is_bound(pod)]
    assert sorted(nodes) == ["n0", "n0", "n1", "n1", "n2", "n2"]


async def test_a_cordoned_node_takes_pods_when_it_is_opened(client: Client) -> None:
    await add_node(client, "n")
    await client.patch(NODES, "n", {"spec": {"unschedulable": True}})
    await add_pod(client, "p")
    await wait_for_one(
        client, PODS, "p", lambda p: message(p) == "0/1 nodes are available: 1 node(s) were unschedulable."
    )
    await client.patch(NODES, "n", {"spec": {"unschedulable": None}})
    await wait_for_one(client, PODS, "p", is_bound)
