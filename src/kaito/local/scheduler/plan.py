"""Where one pod goes: filter the nodes, score what is left, or say of each node why not, in Kubernetes' words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from kaito.api.core import Generic
from kaito.local.scheduler.affinity import (
    UNSCHEDULABLE,
    discouraging_taints,
    is_wanted_node,
    preference,
    tolerates,
    untolerated_taint,
)
from kaito.local.scheduler.requests import PODS, Amounts, allocatable, pod_requests

DEFAULT_SCHEDULER = "default-scheduler"


@dataclass(frozen=True)
class Observed:
    pod: Generic
    nodes: Sequence[Generic]
    used: Mapping[str, Amounts] = field(default_factory=dict)
    """By node name: what the pods that are bound to it request."""


@dataclass(frozen=True)
class Bind:
    node: str


@dataclass(frozen=True)
class Unschedulable:
    message: str
    reason: str = "Unschedulable"


def is_pending(pod: Generic) -> bool:
    """Whether it is this scheduler's turn to place the pod."""
    return (
        not pod.spec.get("nodeName")
        and pod.metadata.deletionTimestamp is None
        and pod.status.get("phase") not in ("Succeeded", "Failed")
        and pod.spec.get("schedulerName", DEFAULT_SCHEDULER) == DEFAULT_SCHEDULER
    )


def plan_placement(observed: Observed) -> Bind | Unschedulable:
    pod = observed.pod
    if pod.spec.get("schedulingGates"):
        return Unschedulable("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")
    if not observed.nodes:
        return Unschedulable("no nodes available to schedule pods")
    needs = pod_requests(pod)
    fitting, refused = [], Counter[str]()
    for node in observed.nodes:
        reasons = _refusals(pod, node, needs, observed.used.get(node.metadata.name, {}))
        refused.update(reasons)
        if not reasons:
            fitting.append(node)
    if not fitting:
        told = sorted(f"{count} {reason}" for reason, count in refused.items())
        return Unschedulable(f"0/{len(observed.nodes)} nodes are available: {', '.join(told)}.")
    best = max(fitting, key=lambda node: (_score(observed, node, needs), _backwards(node.metadata.name)))
    return Bind(best.metadata.name)


def _refusals(pod: Generic, node: Generic, needs: Amounts, used: Amounts) -> list[str]:
    """Why the node will not do; all that it lacks, but only the first of other reasons."""
    if node.metadata.deletionTimestamp is not None:
        return ["node(s) were being deleted"]
    if node.spec.get("unschedulable") and not tolerates(pod, UNSCHEDULABLE):
        return ["node(s) were unschedulable"]
    taint = untolerated_taint(pod, node)
    if taint is not None:
        return [f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value', '')}}}"]
    if not is_wanted_node(pod, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    free = _free(node, used)
    lacking = [name for name, amount in needs.items() if amount > free.get(name, Decimal(0))]
    return ["Too many pods" if name == PODS else f"Insufficient {name}" for name in lacking]


def _free(node: Generic, used: Amounts) -> dict[str, Decimal]:
    """What is left. A node that does not say how many pods it takes, takes any."""
    free = {name: amount - used.get(name, Decimal(0)) for name, amount in allocatable(node).items()}
    free.setdefault(PODS, Decimal("Infinity"))
    return free


def _score(observed: Observed, node: Generic, needs: Amounts) -> tuple[int, int, Decimal]:
    """What the pod prefers first, then the fewest discouraging taints, then the node with the most left over."""
    pod, used = observed.pod, observed.used.get(node.metadata.name, {})
    shares = []
    for name, amount in allocatable(node).items():
        if name in ("cpu", "memory", *needs) and name != PODS and amount:
            shares.append((amount - used.get(name, Decimal(0)) - needs.get(name, Decimal(0))) / amount)
    spare = sum(shares, Decimal(0)) / len(shares) if shares else Decimal(0)
    return preference(pod, node), -discouraging_taints(pod, node), spare


def _backwards(name: str) -> tuple[int, ...]:
    """So that of equals the first by name wins a `max`."""
    return tuple(-ord(character) for character in name)


def neglected_wishes(pod: Generic) -> list[str]:
    """What the pod asks of a scheduler and this one does not look at."""
    affinity = pod.spec.get("affinity") or {}
    wishes = [name for name in ("podAffinity", "podAntiAffinity") if affinity.get(name)]
    wishes += ["topologySpreadConstraints"] if pod.spec.get("topologySpreadConstraints") else []
    containers = pod.spec.get("containers") or ()
    return wishes + (["hostPort"] if any(p.get("hostPort") for c in containers for p in c.get("ports") or ()) else [])
