"""What a plan wants done, as data: `act` is the only code that does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kaito.api.meta import Condition
from kaito.api.workspace import EstimateStatus, TuningStatus
from kaito.kube.resources import Resource


@dataclass(frozen=True)
class Apply:
    """Server-side apply of the whole intent; no write when it is so already."""

    resource: Resource[Any]
    namespace: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True)
class Create:
    """Make it unless it exists; what exists is left as it is. For objects whose spec cannot change."""

    resource: Resource[Any]
    namespace: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True)
class Patch:
    """A merge patch of an object that exists."""

    resource: Resource[Any]
    namespace: str
    name: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Delete:
    """Delete this life of an object; it is no error when it is gone already."""

    resource: Resource[Any]
    namespace: str
    name: str
    uid: str = ""


Action = Apply | Create | Patch | Delete


@dataclass(frozen=True)
class Status:
    """The status to show. Conditions come without transition times: `status` gives each the one it deserves."""

    conditions: tuple[Condition, ...] = ()
    worker_nodes: tuple[str, ...] = ()
    target_nodes: int = 0
    state: str = "Pending"
    tuning: TuningStatus | None = None
    estimate: EstimateStatus | None = None


@dataclass(frozen=True)
class Plan:
    """`actions` in order, then the status, then the finalizer: what a crash leaves undone, the next plan does."""

    actions: tuple[Action, ...] = ()
    status: Status | None = None
    finalizer: bool | None = None
    """True: add ours; False: remove it; None: leave the finalizers alone."""
    requeue_after: float | None = None
    events: tuple[tuple[str, str, str], ...] = field(default=())
    """(type, reason, message) to tell people, deduplicated by the recorder."""
