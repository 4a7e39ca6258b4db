"""Draining a node: pods are evicted in groups, budgets are honoured, and the end of patience is the claim's own.

The order is Karpenter's: ordinary pods, ordinary daemons, critical pods, critical daemons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaito.api.conditions import parse_timestamp
from kaito.api.karpenter import ANNOTATION_DO_NOT_DISRUPT, Taint
from kaito.nodes.lifecycle.world import Action, BoundPod, DeletePod, EvictPod, Observed

DISRUPTED = Taint(key="karpenter.sh/disrupted", effect="NoSchedule")
MIRROR = "kubernetes.io/config.mirror"
CRITICAL = {"system-cluster-critical", "system-node-critical"}
DEFAULT_GRACE = 30
STUCK_AFTER = timedelta(minutes=1)
"""Past the end of its own grace, a pod that still terminates has no kubelet that would end it."""
LOOK_AGAIN = 2.0
"""Seconds until a refused eviction is asked for again."""


@dataclass(frozen=True)
class Drain:
    done: bool
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None


def plan_drain(seen: Observed) -> Drain:
    """What to evict now; done when nothing is left that a drain waits for, or when patience has ended."""
    until = seen.claim.termination_time
    if until is not None and seen.now >= until:
        return Drain(True)
    waiting = [pod for pod in seen.pods if is_drainable(pod, seen.now)]
    if not waiting:
        return Drain(True)
    forced = [] if until is None else [pod for pod in waiting if _must_end_now(pod, until, seen.now)]
    if forced:
        actions = tuple(_end(pod, until, seen.now) for pod in forced) if until is not None else ()
        return Drain(False, actions, LOOK_AGAIN)
    group = _first_group(waiting)
    evict = tuple(
        EvictPod(p.metadata.namespace, p.metadata.name, p.metadata.uid)
        for p in group
        if p.metadata.deletionTimestamp is None and p.metadata.annotations.get(ANNOTATION_DO_NOT_DISRUPT) != "true"
    )
    return Drain(False, evict, LOOK_AGAIN)


def is_drainable(pod: BoundPod, now: datetime) -> bool:
    """Whether a drain waits for this pod to go."""
    if pod.status.phase in ("Succeeded", "Failed") or MIRROR in pod.metadata.annotations:
        return False
    if any(t.tolerates(DISRUPTED) for t in pod.spec.tolerations):
        return False
    if pod.metadata.deletionTimestamp is None:
        return True
    return now < parse_timestamp(pod.metadata.deletionTimestamp) + STUCK_AFTER


def _must_end_now(pod: BoundPod, until: datetime, now: datetime) -> bool:
    grace = pod.spec.terminationGracePeriodSeconds
    needs = timedelta(seconds=DEFAULT_GRACE if grace is None else grace)
    return pod.metadata.deletionTimestamp is None and now >= until - needs


def _end(pod: BoundPod, until: datetime, now: datetime) -> DeletePod:
    left = max(0, int((until - now).total_seconds()))
    return DeletePod(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid, left)


def _first_group(pods: Iterable[BoundPod]) -> list[BoundPod]:
    groups: dict[tuple[bool, bool], list[BoundPod]] = {}
    for pod in pods:
        critical = pod.spec.priorityClassName in CRITICAL
        daemon = any(owner.kind == "DaemonSet" for owner in pod.metadata.ownerReferences)
        groups.setdefault((critical, daemon), []).append(pod)
    return groups[min(groups)]
