"""Many claims at once on the simulated provider: time to all ready, and what it cost in calls to the cloud and the API.

    python benchmarks/provisioner.py --claims 1000

Beside it stands the least that the simulated cloud itself would take: the longest of the drawn delays. The API server
runs in a process of its own; provisioner, kubelets and user share another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kaito.api.crds import machine_crd, node_claim_crd
from kaito.api.karpenter import NodeClaim
from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import CRDS, NODE_CLAIMS
from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.server import ApiServer
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import Scenario
from kaito.nodes.provisioner import WORKERS, Provisioner, ProvisionerConfig

SENDERS = 8
STEPS = ("create", "node", "ready", "gpus")


def claim_body(name: str) -> dict[str, Any]:
    requirement = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC6s_v3"]}
    return {
        "metadata": {"name": name, "labels": {"kaito.sh/workspace": name}},
        "spec": {
            "requirements": [requirement],
            "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
        },
    }


async def measure(count: int, kubeconfig: Path, workers: int) -> dict[str, Any]:
    cloud = SimulatedCloud(Scenario(seed=1))
    names = [f"ws{number:05d}" for number in range(count)]
    async with (
        Client.connect(kubeconfig, field_manager="benchmark") as user,
        Client.connect(kubeconfig, field_manager="kaito-provisioner") as controller,
        Client.connect(kubeconfig, field_manager="kubelet") as kubelet,
    ):
        for crd in (node_claim_crd(), machine_crd()):
            await user.create(CRDS, crd)
        provisioner = Provisioner(controller, SimulatedProvider(kubelet, cloud), ProvisionerConfig(workers=workers))
        task = asyncio.ensure_future(provisioner.run())
        watch = Watch(user)
        follower = asyncio.ensure_future(watch.informer.run())
        await watch.informer.wait_synced()
        began = time.perf_counter()
        await spread(names, lambda name: user.create(NODE_CLAIMS, claim_body(name)))
        created = time.perf_counter() - began
        await watch.until(lambda: watch.ready >= set(names))
        ready = time.perf_counter() - began
        writes_to_ready = writes(controller)
        await spread(names, lambda name: user.delete(NODE_CLAIMS, name))
        await watch.until(lambda: not watch.informer.store.keys())
        gone = time.perf_counter() - began - ready
        for running in (task, follower):
            running.cancel()
        await asyncio.gather(task, follower, return_exceptions=True)
    least = max(sum(cloud.scenario.draw(n, getattr(cloud.scenario.delays, s), s) for s in STEPS) for n in names)
    return {
        "claims": count,
        "seconds_to_submit": round(created, 2),
        "seconds_to_all_ready": round(ready, 2),
        "seconds_the_cloud_alone_takes": round(least, 2),
        "seconds_to_all_gone": round(gone, 2),
        "cloud_calls": dict(cloud.calls),
        "api_writes_per_claim_to_ready": round(writes_to_ready / count, 2),
        "api_writes_per_claim_in_all": round(writes(controller) / count, 2),
        "api_calls": dict(controller.calls),
    }


def writes(client: Client) -> int:
    return sum(client.calls[verb] for verb in ("create", "patch", "apply", "delete"))


async def spread(names: Sequence[str], send: Callable[[str], Awaitable[Any]]) -> None:
    """Some requests at a time, as several people would."""
    left = iter(names)

    async def work() -> None:
        for name in left:
            await send(name)

    await asyncio.gather(*(work() for _ in range(SENDERS)))


def serve(home: Path, told: Connection) -> None:
    """The API server in a process of its own, as a cluster has it; until the pipe closes."""

    async def run() -> None:
        server = ApiServer(ServerConfig(home=home, port=0))
        await server.start()
        told.send(server.kubeconfig)
        await asyncio.to_thread(told.poll, None)
        await server.stop()

    asyncio.run(run())


@contextmanager
def api_server(home: Path) -> Iterator[Path]:
    """Gives the kubeconfig of a fresh server."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(home, theirs))
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(30)


class Watch:
    """Which claims are ready, by a watch."""

    def __init__(self, client: Client) -> None:
        self.informer: Informer[NodeClaim] = Informer(client, NODE_CLAIMS)
        self.ready: set[str] = set()
        self._changed = asyncio.Event()
        self.informer.listen(self._take)

    def _take(self, _: NodeClaim | None, claim: NodeClaim | None) -> None:
        if claim is not None and any(c.type == "Ready" and c.status == "True" for c in claim.status.conditions):
            self.ready.add(claim.metadata.name)
        self._changed.set()

    async def until(self, reached: Any) -> None:
        while not reached():
            self._changed.clear()
            await self._changed.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=WORKERS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, api_server(Path(folder)) as kubeconfig:
        print(json.dumps(asyncio.run(measure(options.claims, kubeconfig, options.workers)), indent=2))


if __name__ == "__main__":
    main()
