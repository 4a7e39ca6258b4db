"""StatefulSet: pods with stable names and volumes, one after the other or all at once, updated from the last ordinal.

A pod below the update's `partition` is made from the revision that was current before; so revisions are kept as
ControllerRevisions, as in Kubernetes. Claims outlive the StatefulSet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.api.core import Generic
from kaito.local.workloads.objects import (
    controller_reference,
    is_finished,
    is_terminating,
    scaled_value,
    seconds_to_available,
    template_hash,
)
from kaito.local.workloads.plan import Action, Create, Plan, delete, earliest, patch_status
from kaito.local.workloads.resources import (
    CLAIMS,
    LABEL_REVISION_HASH,
    PODS,
    REVISIONS,
    STATEFUL_SETS,
    ControllerRevision,
)

LABEL_POD_NAME = "statefulset.kubernetes.io/pod-name"
LABEL_POD_INDEX = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True)
class Observed:
    stateful_set: Generic
    pods: Sequence[Generic]
    revisions: Sequence[ControllerRevision]
    claims: frozenset[str]
    """Names of the PersistentVolumeClaims of the namespace."""
    now: datetime


@dataclass(frozen=True)
class Revisions:
    """The revision that pods are updated to, and the one that they come from; the same when no update is on."""

    update: str
    current: str
    templates: Mapping[str, dict[str, Any]]


def plan_stateful_set(observed: Observed) -> Plan:
    stateful_set = observed.stateful_set
    revisions = find_revisions(stateful_set, observed.revisions)
    by_ordinal = {ordinal_of(pod): pod for pod in observed.pods}
    waits = {
        ordinal: seconds_to_available(pod, int(stateful_set.spec.get("minReadySeconds", 0)), observed.now)
        for ordinal, pod in by_ordinal.items()
    }
    actions: list[Action] = []
    if stateful_set.metadata.deletionTimestamp is None:
        actions += _keep_revisions(observed, revisions)
        actions += _scale(observed, revisions, by_ordinal, waits)
    status = _status(stateful_set, revisions, by_ordinal, waits)
    actions += patch_status(STATEFUL_SETS, stateful_set.metadata, stateful_set.status, status)
    return Plan(tuple(actions), earliest(*(wait for wait in waits.values() if wait)))


def ordinal_of(pod: Generic) -> int:
    digits = pod.metadata.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def ordinals(stateful_set: Generic) -> range:
    start = int((stateful_set.spec.get("ordinals") or {}).get("start", 0))
    return range(start, start + int(stateful_set.spec.get("replicas", 1)))


def find_revisions(stateful_set: Generic, known: Sequence[ControllerRevision]) -> Revisions:
    template = stateful_set.spec.get("template", {})
    update = f"{stateful_set.metadata.name}-{template_hash(template)}"
    templates = {r.metadata.name: r.data.get("spec", {}).get("template", {}) for r in known}
    templates[update] = template
    current = stateful_set.status.get("currentRevision") or update
    return Revisions(update, current if current in templates else update, templates)


def _keep_revisions(observed: Observed, revisions: Revisions) -> list[Action]:
    """Write down a new template, and forget those that are neither in use nor within `revisionHistoryLimit`."""
    owner, known = observed.stateful_set, sorted(observed.revisions, key=lambda r: (r.revision, r.metadata.name))
    newest = known[-1] if known else None
    number = newest.revision + 1 if newest else 1
    same = next((r for r in known if r.metadata.name == revisions.update), None)
    actions: list[Action] = []
    if same is None:
        actions.append(Create(REVISIONS, owner.metadata.namespace, _revision_body(owner, revisions, number), True))
    in_use = {revisions.update, revisions.current, *(revision_of(pod) for pod in observed.pods)}
    idle = [r for r in known if r.metadata.name not in in_use]
    surplus = len(idle) - int(owner.spec.get("revisionHistoryLimit", 10))
    return actions + [delete(REVISIONS, r.metadata) for r in idle[: max(0, surplus)]]


def _revision_body(owner: Generic, revisions: Revisions, number: int) -> dict[str, Any]:
    template = owner.spec.get("template", {})
    return {
        "metadata": {
            "name": revisions.update,
            "labels": {**template.get("metadata", {}).get("labels", {}), LABEL_REVISION_HASH: revisions.update},
            "ownerReferences": [controller_reference(STATEFUL_SETS, owner.metadata)],
        },
        "revision": number,
        "data": {"spec": {"template": {**template, "$patch": "replace"}}},
    }


def revision_of(pod: Generic) -> str:
    return pod.metadata.labels.get(LABEL_REVISION_HASH, "")


def _scale(
    observed: Observed, revisions: Revisions, pods: Mapping[int, Generic], waits: Mapping[int, float | None]
) -> list[Action]:
    """Make what is missing, from the first; then delete what is too many, from the last; then update, from the last.

    `OrderedReady` takes one step at a time and waits for each pod; `Parallel` makes and deletes all at once.
    """
    wanted = ordinals(observed.stateful_set)
    parallel = observed.stateful_set.spec.get("podManagementPolicy") == "Parallel"
    actions: list[Action] = []
    for ordinal in wanted:
        pod = pods.get(ordinal)
        if pod is None:
            actions += _create(observed, revisions, ordinal)
        elif is_finished(pod) and not is_terminating(pod):
            actions.append(delete(PODS, pod.metadata))  # It comes back under its name when it is gone.
        if not parallel and (actions or waits.get(ordinal) != 0):
            return actions
    surplus = [pods[ordinal] for ordinal in sorted(pods.keys() - set(wanted), reverse=True)]
    for pod in surplus:
        if not is_terminating(pod):
            actions.append(delete(PODS, pod.metadata))
        if not parallel:
            return actions
    return actions or ([] if surplus else _update(observed, revisions, pods, waits))


def _update(
    observed: Observed, revisions: Revisions, pods: Mapping[int, Generic], waits: Mapping[int, float | None]
) -> list[Action]:
    """Delete pods of older revisions from the last ordinal down to the partition, few at a time."""
    strategy = observed.stateful_set.spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return []
    rolling = strategy.get("rollingUpdate") or {}
    wanted = ordinals(observed.stateful_set)
    unavailable = scaled_value(rolling.get("maxUnavailable"), len(wanted), default=1, round_up=True)
    room = max(1, unavailable) - sum(waits.get(ordinal) != 0 for ordinal in wanted)
    actions: list[Action] = []
    for ordinal in sorted(wanted, reverse=True):
        pod = pods.get(ordinal)
        if ordinal - wanted.start < int(rolling.get("partition", 0)) or pod is None:
            continue
        if revision_of(pod) == revisions.update or is_terminating(pod):
            continue
        is_broken = waits.get(ordinal) != 0
        if is_broken or room > 0:  # What does not work anyway may go without making things worse.
            actions.append(delete(PODS, pod.metadata))
            room -= not is_broken
    return actions


def _create(observed: Observed, revisions: Revisions, ordinal: int) -> list[Action]:
    owner = observed.stateful_set
    name = f"{owner.metadata.name}-{ordinal}"
    revision = _revision_for(owner, revisions, ordinal)
    claims = {c["metadata"]["name"]: f"{c['metadata']['name']}-{name}" for c in _claim_templates(owner)}
    made: list[Action] = [
        Create(
            CLAIMS, owner.metadata.namespace, _claim_body(owner, template, claims[template["metadata"]["name"]]), True
        )
        for template in _claim_templates(owner)
        if claims[template["metadata"]["name"]] not in observed.claims
    ]
    body = _pod_body(owner, revisions.templates[revision], revision, ordinal, claims)
    return [*made, Create(PODS, owner.metadata.namespace, body)]


def _revision_for(owner: Generic, revisions: Revisions, ordinal: int) -> str:
    """Below the partition the current revision; else the new one, since a pod that is missing needs no old one."""
    strategy = owner.spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return revisions.update
    partition = int((strategy.get("rollingUpdate") or {}).get("partition", 0))
    is_kept = ordinal - ordinals(owner).start < partition
    return revisions.current if is_kept else revisions.update


def _claim_templates(owner: Generic) -> Sequence[dict[str, Any]]:
    return owner.spec.get("volumeClaimTemplates") or ()


def _claim_body(owner: Generic, template: dict[str, Any], name: str) -> dict[str, Any]:
    metadata = template["metadata"]
    selected = owner.spec.get("selector", {}).get("matchLabels", {})
    annotations = {"annotations": metadata["annotations"]} if metadata.get("annotations") else {}
    labels = {**selected, **metadata.get("labels", {})}
    return {"metadata": {"name": name, "labels": labels, **annotations}, "spec": template.get("spec", {})}


def _pod_body(
    owner: Generic, template: dict[str, Any], revision: str, ordinal: int, claims: Mapping[str, str]
) -> dict[str, Any]:
    name = f"{owner.metadata.name}-{ordinal}"
    metadata, spec = template.get("metadata", {}), template.get("spec", {})
    marks = {LABEL_POD_NAME: name, LABEL_POD_INDEX: str(ordinal), LABEL_REVISION_HASH: revision}
    volumes = [v for v in spec.get("volumes") or () if v.get("name") not in claims]
    volumes += [{"name": volume, "persistentVolumeClaim": {"claimName": claim}} for volume, claim in claims.items()]
    return {
        "metadata": {
            "name": name,
            "labels": {**metadata.get("labels", {}), **marks},
            **({"annotations": metadata["annotations"]} if metadata.get("annotations") else {}),
            "ownerReferences": [controller_reference(STATEFUL_SETS, owner.metadata)],
        },
        "spec": {
            **spec,
            "hostname": name,
            **({"subdomain": owner.spec["serviceName"]} if owner.spec.get("serviceName") else {}),
            **({"volumes": volumes} if volumes else {}),
        },
    }


def _status(
    owner: Generic, revisions: Revisions, pods: Mapping[int, Generic], waits: Mapping[int, float | None]
) -> dict[str, Any]:
    alive = {ordinal: pod for ordinal, pod in pods.items() if not is_finished(pod)}
    updated = sum(revision_of(pod) == revisions.update and not is_terminating(pod) for pod in alive.values())
    available = sum(waits[ordinal] == 0 for ordinal in alive)
    wanted = len(ordinals(owner))
    is_updated = updated == wanted == available and len(alive) == wanted
    current = revisions.update if is_updated else revisions.current
    on_current = sum(revision_of(pod) == current and not is_terminating(pod) for pod in alive.values())
    return {
        "observedGeneration": owner.metadata.generation,
        "replicas": len(alive),
        "readyReplicas": sum(waits[ordinal] is not None for ordinal in alive) or None,
        "availableReplicas": available,
        "currentReplicas": on_current or None,
        "updatedReplicas": updated or None,
        "currentRevision": current,
        "updateRevision": revisions.update,
        "collisionCount": 0,
    }
