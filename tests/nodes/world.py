"""A cluster with a provisioner in it, and what a test does to both: claims, waits, a kubelet that only says Ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from kaito.api.core import Node
from kaito.api.crds import machine_crd, node_claim_crd
from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import CRDS, MACHINES, NODE_CLAIMS, NODES, Resource, untyped
from kaito.nodes.providers.base import Provider
from kaito.nodes.provisioner import Provisioner, ProvisionerConfig

PATIENCE = 60.0
RAW_NODES = untyped("", "v1", "nodes", "Node", False)
RAW_PODS = untyped("", "v1", "pods", "Pod", True)
RAW_EVENTS = untyped("", "v1", "events", "Event", True)


class World:
    """Verbs of a test, over one client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def install(self) -> None:
        for crd in (node_claim_crd(), machine_crd()):
            await self.client.create(CRDS, crd)
        for resource in (NODE_CLAIMS, MACHINES):
            await eventually(partial(self._is_served, resource))

    async def claim(self, name: str, resource: Resource[Any] = NODE_CLAIMS, **changes: Any) -> None:
        await self.client.create(resource, claim_body(name, resource, **changes))

    async def conditions(self, name: str, resource: Resource[Any] = NODE_CLAIMS) -> dict[str, tuple[str, str, str]]:
        found = await self.client.find(resource, name)
        listed = found.status.conditions if found is not None else []
        return {c.type: (c.status, c.reason, c.message) for c in listed}

    async def until(self, name: str, type_: str, status: str, resource: Resource[Any] = NODE_CLAIMS) -> str:
        """Waits for a condition; returns its reason."""

        async def reached() -> str:
            condition = (await self.conditions(name, resource)).get(type_, ("", "", ""))
            return condition[1] if condition[0] == status else ""

        return str(await eventually(reached, lambda: f"{name} never had {type_}={status}"))

    async def until_reason(self, name: str, type_: str, reason: str, resource: Resource[Any] = NODE_CLAIMS) -> str:
        """Waits for a condition's reason; returns its message, or the reason when that is empty."""

        async def reached() -> str:
            condition = (await self.conditions(name, resource)).get(type_, ("", "", ""))
            return (condition[2] or reason) if condition[1] == reason else ""

        return str(await eventually(reached, lambda: f"{name} never had {type_} with reason {reason}"))

    async def until_gone(self, name: str, resource: Resource[Any]) -> None:
        async def gone() -> bool:
            return await self.client.find(resource, name) is None

        await eventually(gone, lambda: f"{resource.kind} {name} did not go")

    async def node(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.client.get(RAW_NODES, name)
        return found

    async def events(self, reason: str) -> list[str]:
        listing = await self.client.list(RAW_EVENTS)
        return [str(event["message"]) for event, _ in listing.items if event["reason"] == reason]

    async def _is_served(self, resource: Resource[Any]) -> bool:
        crd = await self.client.get(CRDS, f"{resource.plural}.{resource.group}")
        return any(c["type"] == "Established" and c["status"] == "True" for c in crd.status.get("conditions") or [])


async def eventually(check: Callable[[], Any], failure: Callable[[], str] = lambda: "it never happened") -> Any:
    """The first true answer of an async check; AssertionError when none comes in time."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        answer = await check()
        if answer:
            return answer
        assert asyncio.get_running_loop().time() < deadline, failure()
        await asyncio.sleep(0.02)


def claim_body(name: str, resource: Resource[Any], **changes: Any) -> dict[str, Any]:
    """A claim as the workspace controller writes it."""
    machine = resource.kind == "Machine"
    pool = "karpenter.sh/provisioner-name" if machine else "karpenter.sh/nodepool"
    size = changes.pop("instance_type", "Standard_NC6s_v3")
    spec: dict[str, Any] = {
        "requirements": [{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [size]}],
        "resources": {"requests": {"storage": "50Gi"}},
        "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
    }
    if machine:
        spec["machineTemplateRef"] = {"name": name}
    else:
        spec["nodeClassRef"] = {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
    labels = {"kaito.sh/workspace": "phi", pool: "default" if machine else "kaito"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {**spec, **changes}}


@asynccontextmanager
async def provisioning(
    client: Client, provider: Provider, config: ProvisionerConfig | None = None
) -> AsyncIterator[None]:
    """A provisioner that runs while the context lasts; its failure is the test's."""
    provisioner = Provisioner(client, provider, config or ProvisionerConfig())
    task = asyncio.ensure_future(provisioner.run())
    try:
        yield
    finally:
        await stopped(task)


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancels once, as a signal does; a task that does not end for that fails the test and says where it is."""
    task.cancel()
    await asyncio.wait({task}, timeout=PATIENCE)
    if not task.done():
        where = "".join(str(frame) + "\n" for other in asyncio.all_tasks() for frame in other.get_stack())
        raise AssertionError(f"the provisioner did not end when it was cancelled:\n{where}")
    with suppress(asyncio.CancelledError):
        task.result()


@asynccontextmanager
async def kubelet(client: Client, prefix: str = "local://") -> AsyncIterator[None]:
    """Says Ready for every node of that prefix, with what the annotation `kaito.sh/capacity` promises."""
    informer = Informer(client, NODES)
    queue: asyncio.Queue[Node] = asyncio.Queue()

    def changed(_: Node | None, node: Node | None) -> None:
        if node is not None and node.spec.providerID.startswith(prefix) and not node.status.conditions:
            queue.put_nowait(node)

    async def report() -> None:
        while True:
            node = await queue.get()
            offers = json.loads(node.metadata.annotations["kaito.sh/capacity"])
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
            status = {"capacity": offers, "allocatable": offers, "conditions": [ready]}
            await client.patch(NODES, node.metadata.name, {"status": status}, subresource="status")

    informer.listen(changed)
    tasks = [asyncio.ensure_future(informer.run()), asyncio.ensure_future(report())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[World]:
    """A world with the CRDs installed."""
    async with Client.connect(kubeconfig, field_manager="test") as client:
        world = World(client)
        await world.install()
        yield world
