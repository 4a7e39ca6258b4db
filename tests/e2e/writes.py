"""What is written to a control plane's API over a while, seen as any client can: versions before and after."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from kaito.kube.client import Client
from kaito.kube.resources import LEASES, untyped

LOOKED_AT = (
    untyped("kaito.sh", "v1beta1", "workspaces", "Workspace", True),
    untyped("karpenter.sh", "v1", "nodeclaims", "NodeClaim", False),
    untyped("", "v1", "nodes", "Node", False),
    untyped("", "v1", "pods", "Pod", True),
    untyped("", "v1", "events", "Event", True),
    untyped("batch", "v1", "jobs", "Job", True),
    untyped("apps", "v1", "deployments", "Deployment", True),
    untyped("apps", "v1", "replicasets", "ReplicaSet", True),
)


@dataclass(frozen=True)
class Writes:
    """`total` counts every write of any kind: the server numbers them one after the other."""

    total: int
    leases: int
    changed: frozenset[str]
    """Kind and name of what was written, of the kinds that a Workspace is made of."""


async def count_writes(kubeconfig: Path, seconds: float) -> Writes:
    async with Client.connect(kubeconfig) as client:
        begin = await client.list(LEASES)
        before = await _versions(client)
        leases = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for event in client.watch(LEASES, version=begin.resource_version):
                    if event.type in ("ADDED", "MODIFIED", "DELETED"):
                        leases += 1
        last = int((await client.list(LEASES)).resource_version)
        after = await _versions(client)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return Writes(last - int(begin.resource_version), leases, frozenset(changed))


async def settle(kubeconfig: Path, patience: float) -> Writes:
    """Returns when for 3 s nothing but leases was written."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        writes = await count_writes(kubeconfig, 3)
        if writes.total <= writes.leases + 1 and not writes.changed:
            return writes
        assert asyncio.get_running_loop().time() < deadline, f"still writing after {patience} s: {writes}"


async def _versions(client: Client) -> dict[str, str]:
    found = {}
    for resource in LOOKED_AT:
        for obj, _ in (await client.list(resource)).items:
            metadata = obj["metadata"]
            found[f"{resource.kind}/{metadata['name']}"] = str(metadata["resourceVersion"])
    return found
