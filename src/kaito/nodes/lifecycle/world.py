"""What a decision sees (`Observed`) and what it may ask for (`Action`). All frozen, all plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from kaito.api.core import Node
from kaito.api.karpenter import Taint
from kaito.api.meta import Condition, ObjectMeta
from kaito.nodes.claim import Claim
from kaito.nodes.errors import ProviderError
from kaito.nodes.providers.base import Instance


class Toleration(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return self.key == taint.key and self.value == taint.value


class BoundPodSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    nodeName: str = ""
    priorityClassName: str = ""
    terminationGracePeriodSeconds: int | None = None
    tolerations: list[Toleration] = []


class BoundPodStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    phase: str = ""


class BoundPod(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pod as a drain sees it."""

    metadata: ObjectMeta = ObjectMeta()
    spec: BoundPodSpec = BoundPodSpec()
    status: BoundPodStatus = BoundPodStatus()


@dataclass(frozen=True)
class Policy:
    """How long to wait for what, and what follows."""

    launch_deadline: timedelta = timedelta(minutes=30)
    registration_deadline: timedelta = timedelta(minutes=15)
    unhealthy_after: timedelta = timedelta(minutes=10)
    orphan_grace: timedelta = timedelta(seconds=30)
    """Age at which an instance without a claim counts as forgotten."""
    delete_after_deadline: bool = True
    """Whether a claim that missed a deadline is deleted (Karpenter's way) or stays and says so."""
    delete_without_capacity: bool = False
    """Whether a claim that the cloud has no capacity for is deleted (Karpenter's way) or stays and is retried."""
    repair: bool = True


@dataclass(frozen=True)
class Attempt:
    """The last create that failed."""

    error: ProviderError
    retry_at: datetime | None
    """None: not while the claim is what it is."""


@dataclass(frozen=True)
class Observed:
    claim: Claim
    now: datetime
    instance: Instance | None = None
    instances_known: bool = True
    """Whether the list of instances is complete and younger than our last doubt about this name."""
    list_error: ProviderError | None = None
    """Why the cloud could not be listed, while it cannot."""
    rival: str = ""
    """Key of another living claim that the instance of this name belongs to."""
    nodes: tuple[Node, ...] = ()
    pods: tuple[BoundPod, ...] = ()
    """All pods on those nodes."""
    attempt: Attempt | None = None
    policy: Policy = Policy()


class Action:
    """Something to do. Each may be repeated: doing it twice leaves what doing it once left."""


@dataclass(frozen=True)
class ListInstances(Action):
    """Learn what the cloud has, before trusting that something is not there."""


@dataclass(frozen=True)
class CreateInstance(Action):
    pass


@dataclass(frozen=True)
class DeleteInstance(Action):
    """Start or continue to delete the instance of the claim's name."""


@dataclass(frozen=True)
class ExplainFailure(Action):
    """Ask the cloud once why the claim's instance failed."""


@dataclass(frozen=True)
class RememberFailure(Action):
    """Do not ask again for what just failed before its time has come."""

    error: ProviderError


@dataclass(frozen=True)
class PatchClaim(Action):
    """A merge patch of the claim's metadata, guarded by its resourceVersion."""

    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class DeleteClaim(Action):
    reason: str
    message: str


@dataclass(frozen=True)
class PatchNode(Action):
    """A merge patch of a node, guarded by its resourceVersion."""

    name: str
    version: str
    patch: Mapping[str, Any]


@dataclass(frozen=True)
class DeleteNode(Action):
    name: str
    uid: str


@dataclass(frozen=True)
class EvictPod(Action):
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class DeletePod(Action):
    """Delete with a grace period in seconds: what is left when patience ends, or when the machine is gone."""

    namespace: str
    name: str
    uid: str
    grace: int


@dataclass(frozen=True)
class Announce(Action):
    """An event on the claim."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Step:
    """What one sub-reconciler wants: a condition, actions, fields of the status, and when to look again (seconds)."""

    condition: Condition | None = None
    actions: tuple[Action, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    requeue_after: float | None = None


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...] = ()
    claim: Claim | None = None
    """The claim with the status that holds once the actions are done; None leaves the status alone."""
    requeue_after: float | None = None


def holds(type_: str) -> Condition:
    """A condition that is True gives its own name as the reason, as Karpenter's do."""
    return Condition(type=type_, status="True", reason=type_)


def pending(type_: str, reason: str, message: str) -> Condition:
    """A condition that is not True yet, and may become so by itself."""
    return Condition(type=type_, status="Unknown", reason=reason, message=message)


def failed(type_: str, reason: str, message: str) -> Condition:
    return Condition(type=type_, status="False", reason=reason, message=message)


def seconds_until(moment: datetime, now: datetime) -> float:
    return max(0.0, (moment - now).total_seconds())
