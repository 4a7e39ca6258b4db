"""What a Deployment says of itself: the counts over its ReplicaSets, `Available` and `Progressing`.

The reasons and messages are Kubernetes' own, because `kubectl rollout status` and people read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kaito.api.conditions import parse_timestamp, timestamp
from kaito.api.core import Generic
from kaito.local.workloads.objects import condition_of


def deployment_status(
    deployment: Generic, new: Generic | None, old: Sequence[Generic], fewest_available: int, now: datetime
) -> tuple[dict[str, Any], float | None]:
    """The status, and the seconds until the progress deadline when one is running."""
    every = [*old, *([new] if new else [])]
    available = _total(every, "availableReplicas")
    counts = {
        "replicas": _total(every, "replicas"),
        "updatedReplicas": _total([new] if new else [], "replicas"),
        "readyReplicas": _total(every, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(int(rs.spec.get("replicas", 1)) for rs in every) - available),
    }
    conditions = [_available_condition(deployment, available >= fewest_available, now)]
    progressing, wait = _progressing(deployment, new, counts, now)
    if progressing:
        conditions.append(progressing)
    status: dict[str, Any] = {name: count or None for name, count in counts.items()}
    return {**status, "observedGeneration": deployment.metadata.generation, "conditions": conditions}, wait


def is_complete(deployment: Generic, counts: dict[str, int]) -> bool:
    wanted = int(deployment.spec.get("replicas", 1))
    return all(counts[name] == wanted for name in ("replicas", "updatedReplicas", "availableReplicas"))


def _total(replica_sets: Sequence[Generic], field: str) -> int:
    return sum(int(rs.status.get(field, 0)) for rs in replica_sets)


def _available_condition(deployment: Generic, holds: bool, now: datetime) -> dict[str, Any]:
    if holds:
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
    else:
        reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    return _condition(deployment, "Available", str(holds), reason, message, now)


def _progressing(
    deployment: Generic, new: Generic | None, counts: dict[str, int], now: datetime
) -> tuple[dict[str, Any] | None, float | None]:
    deadline = deployment.spec.get("progressDeadlineSeconds")
    before = condition_of(deployment.status, "Progressing")
    if deployment.spec.get("paused"):
        return _condition(deployment, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now), None
    if new is None:
        message = f'Created new replica set for "{deployment.metadata.name}"'
        return _condition(deployment, "Progressing", "True", "NewReplicaSetCreated", message, now), None
    subject = f'ReplicaSet "{new.metadata.name}"'
    if is_complete(deployment, counts):
        message = f"{subject} has successfully progressed."
        return _condition(deployment, "Progressing", "True", "NewReplicaSetAvailable", message, now), None
    moved = _has_moved(deployment, before, counts)
    if before and not moved and deadline is not None:
        left = _seconds_left(before, float(deadline), now)
        if left <= 0 or before["reason"] == "ProgressDeadlineExceeded":
            message = f"{subject} has timed out progressing."
            return _condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded", message, now), None
        return before, left
    message = f"{subject} is progressing."
    condition = _condition(deployment, "Progressing", "True", "ReplicaSetUpdated", message, now, moved=moved)
    return condition, float(deadline) if deadline is not None else None


def _has_moved(deployment: Generic, before: dict[str, Any] | None, counts: dict[str, int]) -> bool:
    """Whether anything came nearer since the last status: more new pods, more ready, fewer old."""
    status = deployment.status
    if before is None or before["reason"] in ("NewReplicaSetAvailable", "DeploymentPaused", "NewReplicaSetCreated"):
        return True
    if status.get("observedGeneration") != deployment.metadata.generation:
        return True
    old_before = int(status.get("replicas") or 0) - int(status.get("updatedReplicas") or 0)
    return (
        counts["updatedReplicas"] > int(status.get("updatedReplicas") or 0)
        or counts["readyReplicas"] > int(status.get("readyReplicas") or 0)
        or counts["availableReplicas"] > int(status.get("availableReplicas") or 0)
        or counts["replicas"] - counts["updatedReplicas"] < old_before
    )


def _seconds_left(condition: dict[str, Any], deadline: float, now: datetime) -> float:
    since = parse_timestamp(condition.get("lastUpdateTime") or condition["lastTransitionTime"])
    return deadline - (now - since).total_seconds()


def _condition(
    deployment: Generic, type_: str, status: str, reason: str, message: str, now: datetime, *, moved: bool = False
) -> dict[str, Any]:
    """A condition whose times move only with what it says, or with progress."""
    before = condition_of(deployment.status, type_)
    said = {"type": type_, "status": status, "reason": reason, "message": message}
    if before and not moved and said.items() <= before.items():
        return before
    same = before and before.get("status") == status
    since = before["lastTransitionTime"] if before and same else timestamp(now)
    return {**said, "lastUpdateTime": timestamp(now), "lastTransitionTime": since}
