"""Claims for nodes: NodeClaim v1 and v1beta1, and Machine v1alpha5, with the labels that lead back to the Workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.api.karpenter import ANNOTATION_DO_NOT_DISRUPT, LABEL_INSTANCE_TYPE, LABEL_NODEPOOL, LABEL_PROVISIONER
from kaito.api.workspace import ANNOTATION_NODE_IMAGE, Workspace
from kaito.catalog.instances import InstanceType
from kaito.kube.resources import Resource
from kaito.workspace.names import owner_labels

GIB = 2**30
DISK_SLACK_GIB = 80
"""For images and the system, beside the weights."""
LEAST_DISK_GIB = 120
POOL = "kaito"


def render_claim(
    api: Resource[Any],
    name: str,
    workspace: Workspace,
    instance: InstanceType | None,
    labels: Mapping[str, str],
    weights_bytes: int,
) -> dict[str, Any]:
    """A claim for one node of the Workspace's instance type; `labels` are those that the node shall carry too."""
    if api.kind == "Machine":
        return _machine(name, workspace, instance, labels, weights_bytes)
    image = workspace.metadata.annotations.get(ANNOTATION_NODE_IMAGE)
    annotations = {ANNOTATION_DO_NOT_DISRUPT: "true", **({ANNOTATION_NODE_IMAGE: image} if image else {})}
    spec = _spec(workspace, LABEL_NODEPOOL, POOL, weights_bytes)
    spec["nodeClassRef"] = _node_class(api.version)
    if api.version == "v1":
        # The default of 720 h would take a GPU node away from under a running server.
        spec["expireAfter"] = "Never"
    metadata = {
        "name": name,
        "labels": {**labels, LABEL_NODEPOOL: POOL, **owner_labels(workspace)},
        "annotations": annotations,
    }
    return {"metadata": metadata, "spec": spec}


def _machine(
    name: str, workspace: Workspace, instance: InstanceType | None, labels: Mapping[str, str], weights_bytes: int
) -> dict[str, Any]:
    spec = _spec(workspace, LABEL_PROVISIONER, "default", weights_bytes)
    architecture = instance.architecture if instance else "amd64"
    spec["requirements"] += [
        _in("kaito.sh/machine-type", "gpu"),
        _in("kubernetes.io/arch", architecture),
    ]
    spec["machineTemplateRef"] = {"name": name}
    metadata = {
        "name": name,
        "labels": {**labels, LABEL_PROVISIONER: "default", **owner_labels(workspace)},
        "annotations": {ANNOTATION_DO_NOT_DISRUPT: "true"},
    }
    return {"metadata": metadata, "spec": spec}


def _spec(workspace: Workspace, pool_key: str, pool: str, weights_bytes: int) -> dict[str, Any]:
    disk = max(LEAST_DISK_GIB, -(-weights_bytes // GIB) + DISK_SLACK_GIB)
    return {
        "requirements": [
            _in(pool_key, pool),
            _in(LABEL_INSTANCE_TYPE, workspace.resource.instanceType),
            _in("kubernetes.io/os", "linux"),
        ],
        "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        "resources": {"requests": {"storage": f"{disk}Gi"}},
    }


def _node_class(version: str) -> dict[str, str]:
    if version == "v1":
        return {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
    return {"apiVersion": "kaito.sh/v1alpha1", "kind": "KaitoNodeClass", "name": "default"}


def _in(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}
