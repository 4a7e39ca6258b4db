"""Names, labels and paths of what the controller makes: deterministic, so that a repeated create is never a second."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from kaito.api.workspace import LABEL_WORKSPACE, LABEL_WORKSPACE_NAMESPACE, Workspace

FIELD_MANAGER = "kaito-workspace"
LABEL_ROLE = "kaito.sh/role"
ROLE_TUNE = "tune"
ROLE_SERVE = "serve"
ANNOTATION_STOPPED = "kaito.sh/stopped-because"
"""On a Job that was suspended since no retry helps: the cause as JSON, which outlives the pod that said it."""
TRAINING_CONFIG = "training_config.yaml"
INFERENCE_CONFIG = "inference_config.yaml"
HTTP_PORT = 5000


def claim_name(namespace: str, name: str, index: int) -> str:
    """`ws` and nine hex digits: eleven characters, which an AKS agent pool may have at most twelve of."""
    return "ws" + hashlib.sha256(f"{namespace}/{name}/{index}".encode()).hexdigest()[:9]


def pool_name(namespace: str, name: str) -> str:
    """The name of the Workspace's NodePool, which is a label's value too: at most 63 characters, never another's."""
    return f"{namespace}-{name}"[:53].rstrip("-") + "-" + claim_name(namespace, name, 0).removeprefix("ws")


def config_map_name(workspace: Workspace) -> str:
    return f"{workspace.metadata.name}-config"


DEFAULT_CONFIGS = {"lora-params-template": "lora", "qlora-params-template": "qlora", "inference-params-template": ""}
"""ConfigMaps with defaults that KAITO brings along, by method; manifests name them, and they need not be there."""


def default_config_name(method: str) -> str:
    """KAITO's name of the ConfigMap with the defaults of a tuning method."""
    return f"{method}-params-template"


def headless_name(workspace: Workspace) -> str:
    """Of a Service, whose name may have 63 characters, as the Workspace's own."""
    name = workspace.metadata.name
    return f"{name}-headless" if len(name) <= 54 else f"{name[:45].rstrip('-')}-{digest(name)[:8]}-headless"


def config_key(workspace: Workspace) -> str:
    """The key of the Workspace's config, in the user's ConfigMap and in ours."""
    return TRAINING_CONFIG if workspace.tuning else INFERENCE_CONFIG


def owner_labels(workspace: Workspace) -> dict[str, str]:
    """What nodes and claims carry of the Workspace they are for."""
    metadata = workspace.metadata
    return {LABEL_WORKSPACE: metadata.name, LABEL_WORKSPACE_NAMESPACE: metadata.namespace}


def pod_labels(workspace: Workspace, role: str) -> dict[str, str]:
    return {LABEL_WORKSPACE: workspace.metadata.name, LABEL_ROLE: role}


def owner_reference(workspace: Workspace) -> dict[str, Any]:
    """Without `blockOwnerDeletion`, for which some clusters ask a right on the owner's finalizers."""
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "name": workspace.metadata.name,
        "uid": workspace.metadata.uid,
        "controller": True,
    }


def child_metadata(workspace: Workspace, name: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """The metadata of a namespaced child: owned, labelled, in the Workspace's namespace."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": workspace.metadata.namespace,
        "labels": {LABEL_WORKSPACE: workspace.metadata.name},
        "ownerReferences": [owner_reference(workspace)],
    }
    if annotations:
        metadata["annotations"] = annotations
    return metadata


def digest(value: Any) -> str:
    """A short hash of any JSON value or Struct; the order of keys does not matter."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]
