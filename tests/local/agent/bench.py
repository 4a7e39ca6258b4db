"""An agent on a test cluster, and pods of small shell and Python programs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from kaito.kube.client import Client
from kaito.kube.errors import ApiError
from kaito.kube.resources import untyped
from kaito.local.agent import AgentConfig, NodeAgent
from kaito.local.agent.engines import Engines
from kaito.local.up.networks import Networks, claim_networks
from tests.support.cluster import Cluster

PODS = untyped("", "v1", "pods", "Pod", True)
SECRETS = untyped("", "v1", "secrets", "Secret", True)
CONFIG_MAPS = untyped("", "v1", "configmaps", "ConfigMap", True)
NODES = untyped("", "v1", "nodes", "Node", False)
NODE = "testhost"
PATIENCE = 15.0
PROGRAMS = {"sh": ("/bin/sh", "-c"), "python": (sys.executable, "-c"), "plain": ()}


def agent_config(cluster: Cluster, **changes: Any) -> AgentConfig:
    given: dict[str, Any] = {"first_backoff": 0.1, "programs": PROGRAMS, "node_name": NODE}
    given |= {"engines": Engines("none"), **changes}
    return AgentConfig(home=cluster.home, **given)


class Bench:
    """Makes pods on our node and looks at them until they are as a test wants."""

    def __init__(self, cluster: Cluster, client: Client) -> None:
        self.cluster = cluster
        self.client = client
        self.agent: NodeAgent | None = None
        self._task: asyncio.Task[None] | None = None
        self._networks: Networks | None = None

    async def start_agent(self, **changes: Any) -> NodeAgent:
        # Pods listen on fixed ports of their addresses, so a control plane that runs beside us must not share them.
        self._networks = claim_networks(self.cluster.home)
        config = agent_config(self.cluster, pod_network=self._networks.pods, **changes)
        self.agent = NodeAgent(self.client, config)
        self.cluster.set_backend(self.agent.backend)
        self._task = asyncio.create_task(self.agent.run())
        await self.until(self._is_ready, "the node is ready")
        return self.agent

    async def kill_agent(self) -> None:
        """As kill -9 would leave it: nothing is stopped, nothing is written."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> None:
        assert self.agent is not None
        await self.agent.stop_pods(1.0)
        await self.kill_agent()
        if self._networks is not None:
            self._networks.release()

    async def _is_ready(self) -> bool:
        assert self._task is not None
        if self._task.done():
            self._task.result()
        node = await self.client.find(NODES, NODE)
        conditions = ((node or {}).get("status") or {}).get("conditions") or []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self.client.create(PODS, body, "default")

    async def get(self, name: str) -> dict[str, Any]:
        found = await self.client.find(PODS, name, "default")
        return found or {}

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not await holds():
            assert time.monotonic() < deadline, f"waited {patience} s until {what}"
            await asyncio.sleep(0.03)

    async def pod_until(
        self, name: str, holds: Callable[[dict[str, Any]], Any], patience: float = PATIENCE
    ) -> dict[str, Any]:
        """The pod, once `holds(pod)`. Fails showing its status."""
        deadline = time.monotonic() + patience
        while True:
            found = await self.get(name)
            if found and holds(found):
                return found
            assert time.monotonic() < deadline, found.get("status")
            await asyncio.sleep(0.03)

    async def phase(self, name: str, phase: str, patience: float = PATIENCE) -> dict[str, Any]:
        return await self.pod_until(name, lambda p: p.get("status", {}).get("phase") == phase, patience)

    async def gone(self, name: str) -> None:
        async def is_gone() -> bool:
            return not await self.get(name)

        await self.until(is_gone, f"{name} is gone")

    async def put(self, resource: Any, name: str, data: dict[str, str]) -> None:
        """A ConfigMap's data, or a Secret's as plain text."""
        field = "stringData" if resource is SECRETS else "data"
        try:
            await self.client.create(resource, {"metadata": {"name": name}, field: data}, "default")
        except ApiError:
            await self.client.patch(resource, name, {field: data}, "default")


def container(script: str, name: str = "main", image: str = "sh", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, "args": [script], **more}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod on our node. `spec` are further fields of its spec."""
    given = {"nodeName": NODE, "terminationGracePeriodSeconds": 2, "restartPolicy": "Never", **spec}
    return {"metadata": {"name": name}, "spec": {**given, "containers": list(containers)}}


def status_of(found: dict[str, Any], name: str = "main") -> dict[str, Any]:
    statuses = found.get("status", {})
    every = [*(statuses.get("initContainerStatuses") or []), *(statuses.get("containerStatuses") or [])]
    return next((status for status in every if status["name"] == name), {})


def terminated(found: dict[str, Any], name: str = "main") -> dict[str, Any]:
    ended: dict[str, Any] = status_of(found, name)["state"]["terminated"]
    return ended


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", [])}
