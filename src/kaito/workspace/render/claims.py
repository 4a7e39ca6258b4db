"""Claims for nodes: NodeClaim v1 and v1beta1, and Machine v1alpha5, with the labels that lead back to the Workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.api.karpenter import ANNOTATION_DO_NOT_DISRUPT, LABEL_INSTANCE_TYPE, LABEL_NODEPOOL, LABEL_PROVISIONER
from kaito.api.workspace import ANNOTATION_NODE_IMAGE, Workspace, node_image_of
from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.kube.resources import Resource
from kaito.workspace.names import owner_labels
from kaito.workspace.settings import NodeClass

GIB = 2**30
DISK_SLACK_GIB = 80
"""For images and the system, beside the weights."""
LEAST_DISK_GIB = 120
POOL = "kaito"
GPU_PROVISIONER_CLASS = NodeClass("kaito.sh", "v1alpha1", "KaitoNodeClass", "default")
"""The gpu-provisioner knows its claims by this reference; nothing of that kind has to exist."""


def render_claim(
    api: Resource[Any],
    name: str,
    workspace: Workspace,
    instance: InstanceType | None,
    labels: Mapping[str, str],
    weights_bytes: int,
    node_class: NodeClass | None = None,
) -> dict[str, Any]:
    """A claim for one node of the Workspace's instance type; `labels` are those that the node shall carry too.

    With `node_class` it is for Karpenter itself, else for the gpu-provisioner.
    """
    if api.kind == "Machine":
        return _machine(name, workspace, instance, labels, weights_bytes)
    if node_class is not None:
        return _standalone(api, name, workspace, labels, node_class)
    image = node_image_of(workspace)
    annotations = {ANNOTATION_DO_NOT_DISRUPT: "true", **({ANNOTATION_NODE_IMAGE: image} if image else {})}
    spec = _spec(workspace, _in(LABEL_NODEPOOL, POOL))
    spec["resources"] = _disk(weights_bytes)
    spec["nodeClassRef"] = _node_class(api.version, GPU_PROVISIONER_CLASS)
    metadata = {
        "name": name,
        "labels": {**labels, LABEL_NODEPOOL: POOL, **owner_labels(workspace)},
        "annotations": annotations,
    }
    return {"metadata": metadata, "spec": _unexpiring(api, spec)}


def _standalone(
    api: Resource[Any], name: str, workspace: Workspace, labels: Mapping[str, str], node_class: NodeClass
) -> dict[str, Any]:
    """Without a pool's label, which would give the claim to the pool, and without a request for storage, which no node
    ever offers, so that Karpenter would wait for it for ever."""
    spec = _spec(workspace)
    spec["nodeClassRef"] = _node_class(api.version, node_class)
    metadata = {
        "name": name,
        "labels": {**labels, **owner_labels(workspace)},
        "annotations": {ANNOTATION_DO_NOT_DISRUPT: "true"},
    }
    return {"metadata": metadata, "spec": _unexpiring(api, spec)}


def _unexpiring(api: Resource[Any], spec: dict[str, Any]) -> dict[str, Any]:
    """The default of 720 h in v1 would take a GPU node away from under a running server."""
    return {**spec, "expireAfter": "Never"} if api.version == "v1" else spec


def _machine(
    name: str, workspace: Workspace, instance: InstanceType | None, labels: Mapping[str, str], weights_bytes: int
) -> dict[str, Any]:
    architecture = instance.architecture if instance else "amd64"
    pool, kind = _in(LABEL_PROVISIONER, "default"), _in("kaito.sh/machine-type", "gpu")
    spec = _spec(workspace, pool, kind, _in("kubernetes.io/arch", architecture))
    spec["resources"] = _disk(weights_bytes)
    spec["machineTemplateRef"] = {"name": name}
    metadata = {
        "name": name,
        "labels": {**labels, LABEL_PROVISIONER: "default", **owner_labels(workspace)},
        "annotations": {ANNOTATION_DO_NOT_DISRUPT: "true"},
    }
    return {"metadata": metadata, "spec": spec}


def _spec(workspace: Workspace, *more: dict[str, Any]) -> dict[str, Any]:
    instance_type = _in(LABEL_INSTANCE_TYPE, official_name(workspace))
    return {
        "requirements": [*more, instance_type, _in("kubernetes.io/os", "linux")],
        "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
    }


def official_name(workspace: Workspace) -> str:
    """The instance type as its cloud spells it, since Karpenter compares letter by letter; unknown ones as they are."""
    given = workspace.resource.instanceType
    known = find_instance_type(given)
    return known.name if known is not None else given


def _disk(weights_bytes: int) -> dict[str, Any]:
    size = max(LEAST_DISK_GIB, -(-weights_bytes // GIB) + DISK_SLACK_GIB)
    return {"requests": {"storage": f"{size}Gi"}}


def _node_class(version: str, chosen: NodeClass) -> dict[str, str]:
    if version == "v1":
        return {"group": chosen.group, "kind": chosen.kind, "name": chosen.name}
    return {"apiVersion": f"{chosen.group}/{chosen.version}", "kind": chosen.kind, "name": chosen.name}


def _in(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}
