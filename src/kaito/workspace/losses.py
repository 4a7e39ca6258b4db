"""Claims that went away before they gave a node: Karpenter deletes a claim that the cloud has no capacity for.

Asking again at once would ask for ever, as fast as it is refused. So each loss is remembered with what the claim said
last, the next claim waits longer each time, and the status keeps showing the reason meanwhile. This memory may be lost:
a restarted controller asks once more at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kaito.api.conditions import is_true
from kaito.api.karpenter import NodeClaim
from kaito.workspace.causes import Cause
from kaito.workspace.explain.claims import cause_of_claim

FIRST_PAUSE = 10.0
LAST_PAUSE = 600.0


@dataclass(frozen=True)
class Loss:
    """The last claim that a Workspace lost: why, when, and how many in a row."""

    cause: Cause
    at: datetime
    count: int

    def wait(self, now: datetime) -> float:
        """Seconds until the next claim; 0 when it is time."""
        pause = min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** (self.count - 1))
        return max(0.0, pause - (now - self.at).total_seconds())


class LossBook:
    """Losses by Workspace. `note` is called for each claim that is gone."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._losses: dict[str, Loss] = {}

    def of(self, key: str) -> Loss | None:
        return self._losses.get(key)

    def note(self, key: str, claim: NodeClaim) -> None:
        """A claim that had been ready was no failure to get one: its node is replaced at once."""
        if is_true(claim.status.conditions, "Ready"):
            self._losses.pop(key, None)
            return
        before = self._losses.get(key)
        cause, _ = cause_of_claim(claim, self._now())
        if cause is not None:
            self._losses[key] = Loss(cause, self._now(), before.count + 1 if before else 1)

    def forget(self, key: str) -> None:
        """A claim of the Workspace is ready, or the Workspace is gone."""
        self._losses.pop(key, None)
