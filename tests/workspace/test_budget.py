"""What a Workspace costs the API server, by the server's own count of what the operator's account asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito.kube.client import Client
from kaito.local.apiserver.call import User
from kaito.local.apiserver.rbac import Attributes
from kaito.workspace.operator import Operator, OperatorConfig
from tests.install.accounts import grant, kubeconfig_of, rendered
from tests.support.cluster import Cluster
from tests.workspace.builders import INFERENCE, TUNING
from tests.workspace.conftest import Stage
from tests.workspace.node_side import until

WRITES = ("create", "update", "patch", "delete", "deletecollection")
ACCOUNT = "kaito-operator"
QUIET_SECONDS = 2.0
"""Longer than a coalesced status write may take."""


class Count:
    """Writes of the operator's account, by verb and resource; events apart."""

    def __init__(self) -> None:
        self.writes: Counter[str] = Counter()
        self.events = 0

    def __call__(self, user: User, wanted: Attributes, allowed: bool) -> None:
        if not user.name.endswith(f":{ACCOUNT}") or wanted.verb not in WRITES:
            return
        if wanted.verb == "create" and wanted.name:
            return  # the second question about one request: an apply of what is not there yet
        if wanted.resource == "events":
            self.events += 1
        else:
            self.writes[f"{wanted.verb} {wanted.target}"] += 1


@pytest.fixture
def count() -> Count:
    return Count()


@pytest.fixture
def cluster(tmp_path: Path, count: Count) -> Iterator[Cluster]:
    running = Cluster(tmp_path / "home", audit=count)
    running.start()
    yield running
    running.stop()


async def operate(stage: Stage, folder: Path) -> Operator:
    """With the operator's own account, so that the server can tell it from the test."""
    assert isinstance(stage.cluster, Cluster)
    kubeconfig = await kubeconfig_of(stage.user, stage.cluster, ACCOUNT, folder)
    client = Client.connect(kubeconfig, field_manager="kaito-workspace")
    stage.clients.append(client)
    operator = Operator(client, OperatorConfig())
    stage.play(operator.run)
    return operator


async def rest(count: Count) -> None:
    while True:
        before = count.writes.total()
        await asyncio.sleep(QUIET_SECONDS)
        if count.writes.total() == before:
            return


async def test_ten_writes_make_an_inference_workspace_ready(stage: Stage, count: Count, tmp_path: Path) -> None:
    await grant(stage.user, rendered())
    await operate(stage, tmp_path)
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    print(f"from apply to ready: {count.writes.total()} writes, {dict(count.writes)}, and {count.events} events")
    assert 0 < count.writes.total() <= 10, count.writes


async def test_nothing_is_written_at_rest_nor_after_a_restart(stage: Stage, count: Count, tmp_path: Path) -> None:
    await grant(stage.user, rendered())
    first = await operate(stage, tmp_path)
    stage.play(stage.side.run)
    await stage.push_secret()
    for body in (TUNING, INFERENCE):
        await stage.apply(body)
    await stage.wait("tuned", "WorkspaceReady")
    await stage.wait("served", "WorkspaceReady")
    await rest(count)
    before = count.writes.total() + count.events
    second = await operate(stage, tmp_path)

    async def idle() -> bool:
        return second.is_ready() and second.workspaces.controller.queue.is_idle

    await until(idle)
    await asyncio.sleep(QUIET_SECONDS)
    assert first.workspaces.controller.queue.is_idle
    assert count.writes.total() + count.events == before, count.writes
