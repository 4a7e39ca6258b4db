"""Two operators as real processes, the leading one killed: the other acts in time, and never did so before."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kaito.kube.resources import LEASES
from kaito.workspace.operator import LEASE
from tests.workspace.builders import INFERENCE, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import until

LEASE_SECONDS = 3
TAKEOVER_SECONDS = 15
FLAGS = ("--nodes", "byo", "--leader-election", "--lease-namespace", "default", "--lease-duration", str(LEASE_SECONDS))


class Replica:
    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "kaito.cli.main", "operator", *FLAGS, "--kubeconfig", str(kubeconfig)]
        with log.open("wb") as file:
            self.running = subprocess.Popen(command, stdout=file, stderr=file)

    @property
    def leads(self) -> bool:
        """Whether it ever said that it leads."""
        lines = self._log.read_text().splitlines()
        return any(json.loads(line).get("message") == "leading" for line in lines if line.startswith("{"))


@asynccontextmanager
async def two_replicas(stage: Stage, folder: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    replicas = [Replica(stage.cluster.kubeconfig, folder / f"{number}.log") for number in range(2)]
    try:
        yield replicas[0], replicas[1]
    finally:
        for replica in replicas:
            replica.running.kill()
            await asyncio.to_thread(replica.running.wait, 30)


async def holder(stage: Stage) -> str:
    lease = await stage.user.find(LEASES, LEASE, "default")
    return (lease.spec.holderIdentity or "") if lease is not None else ""


@pytest.mark.slow
async def test_a_killed_leader_is_followed_by_the_other(stage: Stage, tmp_path: Path) -> None:
    workspace = changed(INFERENCE, {"resource.instanceType": None})
    async with two_replicas(stage, tmp_path) as replicas:
        await stage.apply(workspace)
        await stage.wait("served", "WorkspaceReady", status="False", reason="NoMatchingNodes")
        leader, other = sorted(replicas, key=lambda replica: not replica.leads)
        assert leader.leads
        assert not other.leads, "two lead at once"
        assert (await holder(stage)).endswith(f"-{leader.running.pid}")
        leader.running.send_signal(signal.SIGKILL)
        await stage.apply(changed(workspace, {"metadata.name": "later"}))

        async def acted() -> bool:
            return (await stage.condition("later", "WorkspaceReady")).get("reason") == "NoMatchingNodes"

        await until(acted, TAKEOVER_SECONDS)
        assert other.leads
        assert (await holder(stage)).endswith(f"-{other.running.pid}")
