"""Builders of claims, nodes, pods and instances, each whole by default and changed by keyword."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kaito.api.core import Node, NodeSpec, NodeStatus
from kaito.api.karpenter import TERMINATION_FINALIZER, Requirement, Taint
from kaito.api.meta import Condition, ObjectMeta
from kaito.nodes.claim import Claim
from kaito.nodes.lifecycle.world import BoundPod, BoundPodSpec, BoundPodStatus, Observed
from kaito.nodes.providers.base import Instance, InstanceState

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
SKU = Taint(key="sku", value="gpu", effect="NoSchedule")
TYPE = "Standard_NC6s_v3"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def claim(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "kind": "NodeClaim",
        "api_version": "karpenter.sh/v1",
        "name": "ws1234",
        "uid": "uid-1",
        "created_at": NOW,
        "generation": 1,
        "resource_version": "10",
        "labels": {"kaito.sh/workspace": "phi"},
        "finalizers": (TERMINATION_FINALIZER,),
        "requirements": (Requirement("node.kubernetes.io/instance-type", "In", [TYPE]),),
        "taints": (SKU,),
    }
    return Claim(**{**fields, **changes})


def conditions(**statuses: str) -> tuple[Condition, ...]:
    """`conditions(Launched="True")`, each since NOW."""
    return tuple(Condition(type=k, status=v, reason=k, lastTransitionTime=stamp(NOW)) for k, v in statuses.items())


def instance(**changes: Any) -> Instance:
    fields: dict[str, Any] = {
        "name": "ws1234",
        "state": InstanceState.RUNNING,
        "instance_type": TYPE,
        "provider_id": "local://here/ws1234",
        "claim_kind": "NodeClaim",
        "claim_uid": "uid-1",
        "created_at": NOW,
    }
    return Instance(**{**fields, **changes})


def node(
    *, ready: str = "True", since: datetime = NOW, gpus: int = 1, taints: tuple[Taint, ...] = (SKU,), **meta: Any
) -> Node:
    """A node as registration leaves it."""
    metadata: dict[str, Any] = {
        "name": "ws1234",
        "uid": "node-uid",
        "resourceVersion": "20",
        "labels": {"kaito.sh/workspace": "phi", "karpenter.sh/registered": "true"},
    }
    offers: dict[str, str | int] = {"cpu": "6", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return Node(
        metadata=ObjectMeta(**{**metadata, **meta}),
        spec=NodeSpec(providerID="local://here/ws1234", taints=list(taints)),
        status=NodeStatus(
            conditions=[Condition(type="Ready", status=ready, lastTransitionTime=stamp(since))],
            capacity=offers,
            allocatable=offers,
        ),
    )


def pod(name: str = "server", **changes: Any) -> BoundPod:
    spec = {"nodeName": "ws1234", **changes.pop("spec", {})}
    phase = changes.pop("phase", "Running")
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", **changes}
    return BoundPod(ObjectMeta(**meta), BoundPodSpec(**spec), BoundPodStatus(phase=phase))


def seen(**changes: Any) -> Observed:
    return Observed(**{"claim": claim(), "now": NOW, **changes})
