"""The workspace controller under many Workspaces: time until all are ready, its CPU, its memory, its API calls.

    python benchmarks/controller.py [--counts 100,1000] [--json FILE]

API server and controller run in processes of their own; this process plays provisioner, Deployment controller and
kubelet, by informers and plain status writes, so that their cost is not measured. Then the controller is started anew
on the same cluster. Aims at 5,000: under 150 MiB resident, under 60 CPU seconds, ready time in proportion to the count,
and a restart that is idle in under 5 s with 0 writes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from kaito.api.crds import node_claim_crd, workspace_crd
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, NotFound
from kaito.kube.informer import Informer
from kaito.kube.resources import CRDS, untyped
from kaito.kube.store import key_of

CLAIMS = untyped("karpenter.sh", "v1", "nodeclaims", "NodeClaim", False)
NODES = untyped("", "v1", "nodes", "Node", False)
PODS = untyped("", "v1", "pods", "Pod", True)
DEPLOYMENTS = untyped("apps", "v1", "deployments", "Deployment", True)
WORKSPACES = untyped("kaito.sh", "v1beta1", "workspaces", "Workspace", True)
SINCE = "2026-07-01T12:00:00Z"
AT_ONCE = 16
PATIENCE = 1800.0
RUN_OPERATOR = """
import asyncio, sys
from pathlib import Path
from kaito.workspace.operator import OperatorConfig, run_operator
asyncio.run(run_operator(OperatorConfig(kubeconfig=Path(sys.argv[1]), host="127.0.0.1", metrics_port=int(sys.argv[2]))))
"""


def true(kind: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": SINCE}


class NodeSide:
    """Answers claims with nodes and Deployments with ready pods, as soon as they are seen."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._claims = Informer(client, CLAIMS)
        self._deployments = Informer(client, DEPLOYMENTS)
        self._claims.listen(self._on_claim)
        self._deployments.listen(self._on_deployment)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claims.run())
            group.create_task(self._deployments.run())
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    def _on_claim(self, old: Any, new: Any) -> None:
        if old is None and new is not None and not new.get("status"):
            self._queue.put_nowait(lambda: self._make_node(new))

    def _on_deployment(self, old: Any, new: Any) -> None:
        if old is None and new is not None and not new.get("status"):
            self._queue.put_nowait(lambda: self._make_pod(new))

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            try:
                await job()
            except (AlreadyExists, NotFound) as error:
                print(f"node side: {error}", file=sys.stderr)

    async def _make_node(self, claim: dict[str, Any]) -> None:
        name = claim["metadata"]["name"]
        await self._client.create(NODES, {"metadata": {"name": name, "labels": claim["metadata"]["labels"]}})
        offered = {"nvidia.com/gpu": "1"}
        await self._status(NODES, name, {"conditions": [true("Ready")], "allocatable": offered, "capacity": offered})
        conditions = [true(kind) for kind in ("Launched", "Registered", "Initialized", "Ready")]
        await self._status(CLAIMS, name, {"nodeName": name, "conditions": conditions})

    async def _make_pod(self, deployment: dict[str, Any]) -> None:
        metadata, template = deployment["metadata"], deployment["spec"]["template"]
        body = {"metadata": {**template["metadata"], "name": f"{metadata['name']}-0"}, "spec": template["spec"]}
        await self._client.create(PODS, body, metadata["namespace"])
        serving = {"phase": "Running", "conditions": [true("PodScheduled"), true("Ready")]}
        await self._status(PODS, f"{metadata['name']}-0", serving, metadata["namespace"])
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        status = {"observedGeneration": metadata["generation"], **counts}
        await self._status(DEPLOYMENTS, metadata["name"], status, metadata["namespace"])

    async def _status(self, resource: Any, name: str, status: dict[str, Any], namespace: str = "") -> None:
        await self._client.patch(resource, name, {"status": status}, namespace, subresource="status")


@contextmanager
def process(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen([sys.executable, *command], text=True, **options)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        command = ("-m", "kaito.local.apiserver", "--home", home, "--port", "0")
        with process(*command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            server.stdout.readline()
            kubeconfig = Path(home) / "kubeconfig"
            async with Client.connect(
                kubeconfig,
                field_manager="bench",
            ) as client:
                for crd in (workspace_crd(), node_claim_crd()):
                    await client.create_if_absent(CRDS, crd)
                return await drive(client, kubeconfig, count)


async def drive(client: Client, kubeconfig: Path, count: int) -> dict[str, Any]:
    side = asyncio.ensure_future(NodeSide(client).run())
    ready = Ready(client)
    watching = asyncio.ensure_future(ready.run())
    result: dict[str, Any] = {"workspaces": count}
    try:
        with operator(kubeconfig) as (running, port):
            began = time.perf_counter()
            await create(client, count)
            await ready.reach(count)
            result["ready_seconds"] = time.perf_counter() - began
            result |= usage(running)
            await asyncio.sleep(2.5)  # the last coalesced status writes are on their way for up to a second
            calls = fetch_calls(port)
            result["calls"] = calls
            result["writes_per_workspace"] = sum(calls.get(v, 0) for v in ("apply", "create", "patch")) / count
        with operator(kubeconfig) as (running, port):
            result["restart"] = await restart(running, port, count)
    finally:
        side.cancel()
        watching.cancel()
        await asyncio.gather(side, watching, return_exceptions=True)
    return result


async def create(client: Client, count: int) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        body = {
            "metadata": {"name": f"ws-{number}"},
            "resource": {
                "instanceType": "Standard_NC6s_v3",
                "labelSelector": {"matchLabels": {"app": f"ws-{number}"}},
            },
            "inference": {"preset": {"name": "tiny-phi-3"}},
        }
        async with slots:
            await client.create(WORKSPACES, body, "default")

    await asyncio.gather(*(one(number) for number in range(count)))


class Ready:
    """Counts Workspaces that are ready, by watching them."""

    def __init__(self, client: Client) -> None:
        self._informer = Informer(client, WORKSPACES)
        self._informer.listen(self._on_change)
        self._ready: set[str] = set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        await self._informer.run()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self._ready) < count:
                self._changed.clear()
                await self._changed.wait()

    def _on_change(self, _: Any, new: Any) -> None:
        if new is not None and new.get("status", {}).get("state") == "Ready":
            self._ready.add(key_of(new))
            self._changed.set()


@contextmanager
def operator(kubeconfig: Path) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    with process("-c", RUN_OPERATOR, str(kubeconfig), str(port), stderr=subprocess.DEVNULL) as running:
        yield psutil.Process(running.pid), port


async def restart(running: psutil.Process, port: int, count: int) -> dict[str, Any]:
    """Seconds until the new process has looked at every Workspace, and what it wrote."""
    began = time.perf_counter()
    while reconciles(port) < count:
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    await asyncio.sleep(1.0)
    calls = fetch_calls(port)
    return {
        "seconds": seconds,
        "writes": sum(calls.get(verb, 0) for verb in ("apply", "create", "patch", "delete")),
        **usage(running),
    }


def usage(running: psutil.Process) -> dict[str, float]:
    times = running.cpu_times()
    return {"cpu_seconds": times.user + times.system, "rss_mib": running.memory_info().rss / 2**20}


def fetch(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def fetch_calls(port: int) -> dict[str, int]:
    found = re.findall(r'kaito_api_calls_total\{verb="(\w+)"\} ([\d.e+]+)', fetch(port))
    return {verb: int(float(number)) for verb, number in found}


def reconciles(port: int) -> float:
    found = re.findall(r'kaito_reconcile_total\{controller="workspace",outcome="\w+"\} ([\d.e+]+)', fetch(port))
    return sum(float(number) for number in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="100,1000")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = [asyncio.run(measure(int(count))) for count in options.counts.split(",")]
    print(
        f"{'count':>6} {'ready s':>8} {'CPU s':>7} {'RSS MiB':>8} {'writes/ws':>10} "
        f"{'restart s':>10} {'CPU s':>6} {'writes':>7}"
    )
    for r in results:
        again = r["restart"]
        print(
            f"{r['workspaces']:>6} {r['ready_seconds']:>8.1f} {r['cpu_seconds']:>7.1f} {r['rss_mib']:>8.0f} "
            f"{r['writes_per_workspace']:>10.1f} {again['seconds']:>10.1f} {again['cpu_seconds']:>6.1f} "
            f"{again['writes']:>7}"
        )
        print(f"       calls: {r['calls']}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
