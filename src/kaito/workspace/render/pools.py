"""The NodePool of a Workspace: static capacity, which Karpenter serves with its feature gate StaticCapacity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.api.karpenter import LABEL_INSTANCE_TYPE
from kaito.api.workspace import Workspace
from kaito.workspace.names import owner_labels
from kaito.workspace.render.claims import official_name
from kaito.workspace.settings import NodeClass

KARPENTER_PREFIX = "karpenter.kaito.sh/"
AZURE = "karpenter.azure.com"
PLACEMENT_SCOPE = "karpenter.azure.com/placement-scope"


def render_pool(
    name: str, workspace: Workspace, labels: Mapping[str, str], node_class: NodeClass, replicas: int
) -> dict[str, Any]:
    """`labels` are those that the nodes shall carry beside the Workspace's own."""
    metadata = workspace.metadata
    ours = {
        **owner_labels(workspace),
        f"{KARPENTER_PREFIX}workspace-name": metadata.name,
        f"{KARPENTER_PREFIX}workspace-namespace": metadata.namespace,
    }
    reference = {"group": node_class.group, "kind": node_class.kind, "name": node_class.name}
    template = {
        "metadata": {"labels": {**labels, **ours}},
        "spec": {
            "nodeClassRef": reference,
            "requirements": _requirements(workspace, node_class),
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
            # The default of 720 h would take a GPU node away from under a running server.
            "expireAfter": "Never",
        },
    }
    # A drifted node is replaced, one at a time; the other reasons of disruption do not hold for a static pool.
    disruption = {"consolidateAfter": "0s", "budgets": [{"nodes": "1", "reasons": ["Drifted"]}]}
    return {
        "metadata": {"name": name, "labels": {**ours, f"{KARPENTER_PREFIX}managed-by": "kaito"}},
        "spec": {"replicas": replicas, "template": template, "disruption": disruption},
    }


def _requirements(workspace: Workspace, node_class: NodeClass) -> list[dict[str, Any]]:
    found = [_in(LABEL_INSTANCE_TYPE, official_name(workspace)), _in("kubernetes.io/os", "linux")]
    if node_class.group == AZURE:
        found.append(_in(PLACEMENT_SCOPE, "regional"))  # Capacity for GPUs that is asked for by zone often fails.
    return found


def _in(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}
