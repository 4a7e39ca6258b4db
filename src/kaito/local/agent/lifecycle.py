"""Which containers of a pod are to be started now, and what phase the pod is in. Pure.

Init containers run one after the other, each to success (one with its own restartPolicy Always is a sidecar: it only
has to have started). Then all main containers run. What ended is started again as the restart policy says, after a
back-off that doubles with each restart; the first restart is immediate, as the kubelet has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaito.api.conditions import parse_timestamp
from kaito.local.agent.run import Exit

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
FINAL = (SUCCEEDED, FAILED)


@dataclass(frozen=True)
class View:
    """What is known of one container. Neither `running` nor `exit` means that it never ran."""

    name: str
    running: bool = False
    exit: Exit | None = None
    stopped: bool = False
    """It ended because the control plane stopped, and is to be taken up again."""
    backoff: float = 0.0
    """Seconds between its end and its next start."""
    started: bool = False
    """It runs and has passed its startup probe."""
    sidecar: bool = False


@dataclass(frozen=True)
class Plan:
    phase: str
    start: tuple[str, ...] = ()
    backing_off: tuple[str, ...] = ()
    wake_in: float | None = None
    """Seconds until the next back-off is over."""
    initialized: bool = False


def plan_pod(inits: Sequence[View], mains: Sequence[View], policy: str, now: datetime) -> Plan:
    """`policy` is the pod's restartPolicy."""
    current = _init_front(inits)
    if current < len(inits):
        view = inits[current]
        if view.exit and not _restarts(view, "Never" if policy == "Never" and not view.sidecar else "OnFailure"):
            return Plan(FAILED)
        due = [view] if not view.running else []
        sidecars = [v for v in inits[:current] if v.sidecar and not v.running]
        return _starts([*sidecars, *due], PENDING, now, initialized=False)
    sidecars = [view for view in inits if view.sidecar and not view.running]
    waiting = [view for view in mains if not view.running and (view.exit is None or _restarts(view, policy))]
    if not waiting and all(view.exit and not view.running for view in mains):
        # One that the control plane stopped, and that may not be started again, did not do its work.
        good = all(view.exit and view.exit.succeeded and not view.stopped for view in mains)
        return Plan(SUCCEEDED if good else FAILED, initialized=True)
    has_begun = any(view.running or view.exit for view in mains)
    return _starts([*sidecars, *waiting], RUNNING if has_begun else PENDING, now, initialized=True)


def _init_front(inits: Sequence[View]) -> int:
    """The index of the first init container that is not done; their number when all are."""
    for index, view in enumerate(inits):
        done = view.started if view.sidecar else bool(view.exit and view.exit.succeeded and not view.stopped)
        if not done or (view.running and not view.sidecar):
            return index
    return len(inits)


def _restarts(view: View, policy: str) -> bool:
    if view.sidecar or policy == "Always":
        return True
    assert view.exit is not None
    return policy == "OnFailure" and (view.stopped or not view.exit.succeeded)


def _starts(views: Sequence[View], phase: str, now: datetime, *, initialized: bool) -> Plan:
    waits = {view.name: seconds_left(view, now) for view in views}
    due = tuple(name for name, seconds in waits.items() if seconds <= 0)
    later = {name: seconds for name, seconds in waits.items() if seconds > 0}
    return Plan(phase, due, tuple(later), min(later.values(), default=None), initialized)


def seconds_left(view: View, now: datetime) -> float:
    """Until the back-off of an ended container is over."""
    if view.exit is None or view.stopped or not view.exit.finished_at:
        return 0.0
    return (parse_time(view.exit.finished_at) + timedelta(seconds=view.backoff) - now).total_seconds()


def next_backoff(before: float, lasted: float, first: float, last: float) -> float:
    """The back-off after a restart, given the one before and how long that run lasted, in seconds."""
    if before == 0 or lasted > 2 * last:
        return first
    return min(last, before * 2)


def parse_time(text: str) -> datetime:
    """RFC 3339 with up to nine digits of fraction, of which Python keeps six."""
    head, dot, fraction = text.rstrip("Z").partition(".")
    return parse_timestamp(f"{head}{dot}{fraction[:6]}Z")
