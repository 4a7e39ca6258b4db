"""Deployment: one ReplicaSet per pod template, and the steps from the old ones to the new.

The arithmetic is Kubernetes': never more than replicas + maxSurge pods, never fewer than replicas - maxUnavailable
available ones. When a Deployment is scaled in the middle of a rollout, the new size is reached by the rollout's own
steps; Kubernetes' proportional split between old and new ReplicaSets is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.api.core import Generic
from kaito.local.workloads.deployment_status import deployment_status
from kaito.local.workloads.objects import (
    controller_reference,
    is_finished,
    is_terminating,
    oldest_first,
    scaled_value,
    template_hash,
)
from kaito.local.workloads.plan import Action, Announce, Create, Patch, Plan, delete, patch_status
from kaito.local.workloads.resources import (
    ANNOTATION_DESIRED,
    ANNOTATION_MAX,
    ANNOTATION_REVISION,
    DEPLOYMENTS,
    LABEL_TEMPLATE_HASH,
    REPLICA_SETS,
)

NOT_INHERITED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    "kaito.sh/applied-hash",
    ANNOTATION_REVISION,
    ANNOTATION_DESIRED,
    ANNOTATION_MAX,
)


@dataclass(frozen=True)
class Observed:
    deployment: Generic
    replica_sets: Sequence[Generic]
    """The ReplicaSets that the Deployment controls."""
    old_pods: Sequence[Generic]
    """The pods of all ReplicaSets but the newest, for `Recreate`."""
    now: datetime


@dataclass(frozen=True)
class Limits:
    """How far a rollout may stray from the wanted number of pods."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        return self.replicas + self.surge

    @property
    def fewest_available(self) -> int:
        return self.replicas - self.unavailable


def plan_deployment(observed: Observed) -> Plan:
    deployment = observed.deployment
    new = find_new(deployment, observed.replica_sets)
    old = oldest_first(rs for rs in observed.replica_sets if rs is not new)
    limits = limits_of(deployment.spec)
    actions: list[Action] = []
    if deployment.metadata.deletionTimestamp is None:
        actions += _revise(deployment, new, old)
        actions += _scale(observed, new, old, limits)
        actions += _forget_history(deployment, new, old, limits)
    status, wait = deployment_status(deployment, new, old, limits.fewest_available, observed.now)
    actions += patch_status(DEPLOYMENTS, deployment.metadata, deployment.status, status)
    return Plan(tuple(actions), wait)


def limits_of(spec: dict[str, Any]) -> Limits:
    replicas = int(spec.get("replicas", 1))
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(replicas, 0, replicas)
    rolling = strategy.get("rollingUpdate") or {}
    surge = scaled_value(rolling.get("maxSurge"), replicas, default="25%", round_up=True)
    unavailable = scaled_value(rolling.get("maxUnavailable"), replicas, default="25%", round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # Percentages of few replicas round to nothing; without a step no rollout would ever move.
    return Limits(replicas, surge, min(unavailable, replicas))


def find_new(deployment: Generic, replica_sets: Sequence[Generic]) -> Generic | None:
    """The ReplicaSet of the template that the Deployment has now; the oldest when there are several."""
    wanted = _bare(deployment.spec.get("template", {}))
    same = [rs for rs in replica_sets if _bare(rs.spec.get("template", {})) == wanted]
    return oldest_first(same)[0] if same else None


def _bare(template: dict[str, Any]) -> dict[str, Any]:
    """The template without the label that the controller adds, nor what a server fills in for nothing."""
    metadata = {key: value for key, value in template.get("metadata", {}).items() if value is not None}
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key != LABEL_TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _scale(observed: Observed, new: Generic | None, old: Sequence[Generic], limits: Limits) -> list[Action]:
    deployment = observed.deployment
    if deployment.spec.get("paused"):
        return _scale_only(deployment, new, old, limits)
    if (deployment.spec.get("strategy") or {}).get("type") == "Recreate":
        return _recreate(observed, new, old, limits)
    grown = _grown(new, old, limits)
    if new is None:
        return [_create(deployment, old, grown, limits)]
    actions = _resize(deployment, new, grown, limits)
    if not actions:
        for replica_set, replicas in _shrunk(new, old, limits):
            actions += _resize(deployment, replica_set, replicas, limits)
    return actions


def _scale_only(deployment: Generic, new: Generic | None, old: Sequence[Generic], limits: Limits) -> list[Action]:
    """A paused Deployment follows its `replicas` with the ReplicaSet that is in use, and begins no rollout."""
    in_use = [rs for rs in (*old, *([new] if new else [])) if _replicas(rs)]
    target = in_use[-1] if in_use else new
    return _resize(deployment, target, limits.replicas, limits) if target and len(in_use) <= 1 else []


def _recreate(observed: Observed, new: Generic | None, old: Sequence[Generic], limits: Limits) -> list[Action]:
    actions = [action for rs in old for action in _resize(observed.deployment, rs, 0, limits)]
    if actions or any(not is_finished(pod) for pod in observed.old_pods):
        return actions
    if new is None:
        return [_create(observed.deployment, old, limits.replicas, limits)]
    return _resize(observed.deployment, new, limits.replicas, limits)


def _grown(new: Generic | None, old: Sequence[Generic], limits: Limits) -> int:
    """The size of the new ReplicaSet in this step."""
    size = _replicas(new) if new else 0
    if size > limits.replicas:
        return limits.replicas
    room = limits.most - size - sum(_replicas(rs) for rs in old)
    return size + max(0, min(room, limits.replicas - size))


def _shrunk(new: Generic, old: Sequence[Generic], limits: Limits) -> list[tuple[Generic, int]]:
    """The old ReplicaSets and their sizes in this step: first without pods that do not work, then oldest first."""
    pods = _replicas(new) + sum(_replicas(rs) for rs in old)
    room = pods - limits.fewest_available - (_replicas(new) - _available(new))
    sizes = {rs.metadata.name: _replicas(rs) for rs in old}
    for rs in old:
        broken = max(0, min(room, sizes[rs.metadata.name] - _available(rs)))
        sizes[rs.metadata.name] -= broken
        room -= broken
    spare = min(room, _available(new) + sum(_available(rs) for rs in old) - limits.fewest_available)
    for rs in old:
        dropped = max(0, min(spare, sizes[rs.metadata.name]))
        sizes[rs.metadata.name] -= dropped
        spare -= dropped
    return [(rs, sizes[rs.metadata.name]) for rs in old]


def _create(deployment: Generic, old: Sequence[Generic], replicas: int, limits: Limits) -> Create:
    template = deployment.spec.get("template", {})
    metadata = template.get("metadata", {})
    hashed = {LABEL_TEMPLATE_HASH: template_hash(_bare(template))}
    labels = {**metadata.get("labels", {}), **hashed}
    selector = deployment.spec.get("selector", {})
    spec = {
        "replicas": replicas,
        "selector": {**selector, "matchLabels": {**selector.get("matchLabels", {}), **hashed}},
        "template": {**template, "metadata": {**metadata, "labels": labels}},
    }
    if deployment.spec.get("minReadySeconds"):
        spec["minReadySeconds"] = deployment.spec["minReadySeconds"]
    body = {
        "metadata": {
            "name": f"{deployment.metadata.name}-{hashed[LABEL_TEMPLATE_HASH]}",
            "labels": labels,
            "annotations": _annotations(deployment, limits, _next_revision(old)),
            "ownerReferences": [controller_reference(DEPLOYMENTS, deployment.metadata)],
        },
        "spec": spec,
    }
    return Create(REPLICA_SETS, deployment.metadata.namespace, body, if_absent=True)


def _annotations(deployment: Generic, limits: Limits, revision: int) -> dict[str, str]:
    inherited = {k: v for k, v in deployment.metadata.annotations.items() if k not in NOT_INHERITED}
    return {**inherited, **_size_annotations(limits), ANNOTATION_REVISION: str(revision)}


def _size_annotations(limits: Limits) -> dict[str, str]:
    return {ANNOTATION_DESIRED: str(limits.replicas), ANNOTATION_MAX: str(limits.most)}


def _resize(deployment: Generic, replica_set: Generic, replicas: int, limits: Limits) -> list[Action]:
    before = _replicas(replica_set)
    if before == replicas:
        return []
    body = {"metadata": {"annotations": _size_annotations(limits)}, "spec": {"replicas": replicas}}
    name = replica_set.metadata.name
    way = "up" if replicas > before else "down"
    return [
        Patch(REPLICA_SETS, deployment.metadata.namespace, name, body),
        Announce("ScalingReplicaSet", f"Scaled {way} replica set {name} from {before} to {replicas}"),
    ]


def _revise(deployment: Generic, new: Generic | None, old: Sequence[Generic]) -> list[Action]:
    """Number the newest ReplicaSet above the old ones, and the Deployment like it."""
    revision = max(_next_revision(old), _revision(new) if new else 0)
    actions: list[Action] = []
    if new is not None and _revision(new) != revision:
        actions.append(_annotate(REPLICA_SETS, new, revision))
    if deployment.metadata.annotations.get(ANNOTATION_REVISION) != str(revision):
        actions.append(_annotate(DEPLOYMENTS, deployment, revision))
    return actions


def _annotate(resource: Any, obj: Generic, revision: int) -> Patch:
    body = {"metadata": {"annotations": {ANNOTATION_REVISION: str(revision)}}}
    return Patch(resource, obj.metadata.namespace, obj.metadata.name, body)


def _forget_history(deployment: Generic, new: Generic | None, old: Sequence[Generic], limits: Limits) -> list[Action]:
    """Delete the oldest empty ReplicaSets beyond `revisionHistoryLimit`, once the rollout is over."""
    if new is None or _available(new) < limits.replicas or deployment.spec.get("paused"):
        return []
    empty = [rs for rs in old if not _replicas(rs) and not rs.status.get("replicas") and not is_terminating(rs)]
    surplus = len(empty) - int(deployment.spec.get("revisionHistoryLimit", 10))
    return [delete(REPLICA_SETS, rs.metadata) for rs in sorted(empty, key=_revision)[: max(0, surplus)]]


def _revision(replica_set: Generic) -> int:
    text = replica_set.metadata.annotations.get(ANNOTATION_REVISION, "0")
    return int(text) if text.isdigit() else 0


def _next_revision(old: Sequence[Generic]) -> int:
    return max((_revision(rs) for rs in old), default=0) + 1


def _replicas(replica_set: Generic) -> int:
    return int(replica_set.spec.get("replicas", 1))


def _available(replica_set: Generic) -> int:
    return int(replica_set.status.get("availableReplicas", 0))
