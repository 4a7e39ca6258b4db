"""ReplicaSet: as many active pods as asked for, all from one template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.api.core import Generic
from kaito.local.workloads.objects import (
    controller_reference,
    is_active,
    is_ready,
    phase,
    ready_since,
    restart_count,
    seconds_to_available,
)
from kaito.local.workloads.plan import Action, Announce, Create, Plan, delete, earliest, patch_status
from kaito.local.workloads.resources import PODS, REPLICA_SETS

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True)
class Observed:
    replica_set: Generic
    pods: Sequence[Generic]
    """The pods that the ReplicaSet controls, finished and terminating ones too."""
    now: datetime


def plan_replica_set(observed: Observed) -> Plan:
    replica_set = observed.replica_set
    active = [pod for pod in observed.pods if is_active(pod)]
    status, wait = _status(replica_set, active, observed.now)
    pods = () if replica_set.metadata.deletionTimestamp else _scale(replica_set, active)
    return Plan((*pods, *patch_status(REPLICA_SETS, replica_set.metadata, replica_set.status, status)), wait)


def pod_body(resource: Any, owner: Generic, template: dict[str, Any]) -> dict[str, Any]:
    """A pod of `template`, controlled by `owner`; the server chooses the end of its name."""
    metadata = template.get("metadata", {})
    return {
        "metadata": {
            "generateName": f"{owner.metadata.name}-",
            "namespace": owner.metadata.namespace,
            "labels": dict(metadata.get("labels", {})),
            **({"annotations": dict(metadata["annotations"])} if metadata.get("annotations") else {}),
            **({"finalizers": list(metadata["finalizers"])} if metadata.get("finalizers") else {}),
            "ownerReferences": [controller_reference(resource, owner.metadata)],
        },
        "spec": template.get("spec", {}),
    }


def rank_for_deletion(pod: Generic) -> tuple[Any, ...]:
    """What goes first when there are too many: what loses least. Smaller ranks go first, as in Kubernetes."""
    since = ready_since(pod)
    cost = pod.metadata.annotations.get(DELETION_COST, "0")
    return (
        bool(pod.spec.get("nodeName")),
        PHASE_RANK.get(phase(pod), 1),
        is_ready(pod),
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -since.timestamp() if since else 0.0,
        -restart_count(pod),
        _newest_first(pod.metadata.creationTimestamp),
        pod.metadata.name,
    )


def _newest_first(created: str | None) -> tuple[int, ...]:
    return tuple(-ord(character) for character in created or "")


def _scale(replica_set: Generic, active: Sequence[Generic]) -> tuple[Action, ...]:
    missing = int(replica_set.spec.get("replicas", 1)) - len(active)
    if missing >= 0:
        body = pod_body(REPLICA_SETS, replica_set, replica_set.spec.get("template", {}))
        return (Create(PODS, replica_set.metadata.namespace, body),) * missing
    surplus = sorted(active, key=rank_for_deletion)[:-missing]
    actions: list[Action] = [delete(PODS, pod.metadata) for pod in surplus]
    actions += [Announce("SuccessfulDelete", f"Deleted pod: {pod.metadata.name}") for pod in surplus]
    return tuple(actions)


def _status(replica_set: Generic, active: Sequence[Generic], now: datetime) -> tuple[dict[str, Any], float | None]:
    spec = replica_set.spec
    waits = [seconds_to_available(pod, int(spec.get("minReadySeconds", 0)), now) for pod in active]
    labels = spec.get("template", {}).get("metadata", {}).get("labels", {})
    counts = {
        "fullyLabeledReplicas": sum(labels.items() <= pod.metadata.labels.items() for pod in active),
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait == 0 for wait in waits),
    }
    status: dict[str, Any] = {
        "observedGeneration": replica_set.metadata.generation,
        "replicas": len(active),
        # Kubernetes leaves out what is zero.
        **{name: count or None for name, count in counts.items()},
    }
    return status, earliest(*(wait for wait in waits if wait))
