"""Claims that the cloud has no capacity for: asked for again, ever more slowly, and the reason stays in sight."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from kaito.api.karpenter import NodeClaim
from kaito.workspace.losses import FIRST_PAUSE, LAST_PAUSE, LossBook
from tests.workspace.builders import INFERENCE, NOW
from tests.workspace.conftest import Stage
from tests.workspace.node_side import CLAIMS, false, until
from tests.workspace.world import World

KEY = "default/served"


def claim(reason: str = "InsufficientCapacity", *, ready: bool = False) -> NodeClaim:
    condition = {"type": "Launched", "status": "False", "reason": reason, "message": "none left in eastus"}
    ends = {"type": "Ready", "status": "True"} if ready else condition
    return msgspec.convert({"metadata": {"name": "ws1"}, "status": {"conditions": [ends]}}, NodeClaim)


def test_each_loss_in_a_row_waits_twice_as_long() -> None:
    book = LossBook(lambda: NOW)
    waits = []
    for _ in range(10):
        book.note(KEY, claim())
        loss = book.of(KEY)
        assert loss is not None
        waits.append(loss.wait(NOW))
    assert waits[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert waits[-1] == LAST_PAUSE


def test_the_pause_ends_with_time_and_a_ready_claim_ends_the_row() -> None:
    book = LossBook(lambda: NOW)
    book.note(KEY, claim())
    loss = book.of(KEY)
    assert loss is not None
    assert loss.wait(NOW + timedelta(seconds=FIRST_PAUSE)) == 0
    book.note(KEY, claim(ready=True))
    assert book.of(KEY) is None, "a node that was there is replaced at once"


def test_no_claim_is_made_in_the_pause_and_the_reason_stays_in_sight_after_it() -> None:
    book = LossBook(lambda: NOW)
    book.note(KEY, claim())
    world = World(INFERENCE)
    world.loss = book.of(KEY)
    decided = world.reconcile()
    assert not world.all("nodeclaims")
    assert decided.requeue_after == FIRST_PAUSE
    assert world.condition("WorkspaceReady")["reason"] == "InsufficientCapacity"
    world.now += timedelta(seconds=FIRST_PAUSE)
    world.reconcile()
    assert len(world.all("nodeclaims")) == 1
    world.reconcile()
    assert world.condition("WorkspaceReady")["reason"] == "InsufficientCapacity", "the new claim has not got further"


async def test_a_claim_that_karpenter_gives_up_is_not_asked_for_at_once(stage: Stage) -> None:
    stage.operate()
    await stage.apply(INFERENCE)
    (made,) = await until(lambda: stage.side.list(CLAIMS))
    name = made["metadata"]["name"]
    refused = false("Launched", "InsufficientCapacity", "none left in eastus")
    await stage.side.set_status(CLAIMS, name, {"conditions": [refused]})
    await stage.wait("served", "NodeClaimReady", status="False", reason="InsufficientCapacity")
    await stage.user.delete(CLAIMS, name)

    async def gone() -> Any:
        return not await stage.side.list(CLAIMS)

    await until(gone)
    found = await stage.wait("served", "WorkspaceReady", status="False", reason="InsufficientCapacity")
    assert "none left in eastus" in found["message"]
    assert not await stage.side.list(CLAIMS), "asked for again at once"
