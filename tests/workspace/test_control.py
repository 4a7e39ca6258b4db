"""The controller against the embedded API server: what the user sees, and what it costs the server."""

from __future__ import annotations

import asyncio

from kaito.kube.client import Client
from kaito.workspace.operator import Operator
from tests.workspace.builders import INFERENCE, TUNING
from tests.workspace.conftest import Stage
from tests.workspace.node_side import DIGEST, EVENTS, SERVICES, until

WRITES = ("apply", "create", "patch", "delete")


def writes(client: Client) -> int:
    return sum(client.calls[verb] for verb in WRITES)


async def test_inference_becomes_ready_with_few_writes(stage: Stage) -> None:
    operator = stage.operate()
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    status = (await stage.workspace("served"))["status"]
    assert status["state"] == "Ready"
    events = await stage.side.list(EVENTS, "default")
    assert writes(operator.workspaces.client) - len(events) <= 10, operator.workspaces.client.calls


async def test_no_writes_at_rest_nor_after_a_restart(stage: Stage) -> None:
    first = stage.operate()
    stage.play(stage.side.run)
    await stage.push_secret()
    await stage.apply(TUNING)
    await stage.apply(INFERENCE)
    await stage.wait("tuned", "WorkspaceReady")
    await stage.wait("served", "WorkspaceReady")
    await settled(first)
    before = writes(first.workspaces.client)
    second = stage.operate()
    await until(lambda: is_idle(second))
    assert writes(first.workspaces.client) == before
    assert writes(second.workspaces.client) == 0, second.workspaces.client.calls


async def is_idle(operator: Operator) -> bool:
    """The caches are filled, every Workspace has been looked at, and no key waits."""
    queue = operator.workspaces.controller.queue
    return operator.is_ready() and queue.is_idle


async def settled(operator: Operator) -> None:
    """No write for as long as a coalesced status write may take."""
    while True:
        before = writes(operator.workspaces.client)
        await asyncio.sleep(1.2)
        if writes(operator.workspaces.client) == before:
            return


async def test_tuning_goes_all_the_way(stage: Stage) -> None:
    stage.operate()
    stage.side.backed_by = "the CPU of this machine"
    stage.play(stage.side.run)
    await stage.push_secret()
    await stage.apply(TUNING)
    await stage.wait("tuned", "WorkspaceReady")
    status = (await stage.workspace("tuned"))["status"]
    assert status["tuning"]["adapter"]["digest"] == DIGEST
    assert "backed by the CPU of this machine" in (await stage.condition("tuned", "NodesReady"))["message"]
    service = await stage.user.get(SERVICES, "tuned", "default")
    assert [(p["port"], p["targetPort"]) for p in service["spec"]["ports"]] == [(80, 5000), (29500, 29500)]
