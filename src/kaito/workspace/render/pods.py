"""What all of our pods have in common: security, volumes, placement, and the environment of a step.

The contract of the steps' environment is in docs/architecture.md. Every path is under a volume mount, so that the same
spec runs as processes on a machine without containers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kaito.api.workspace import ANNOTATION_LOCAL_WEIGHTS, Preset, Workspace
from kaito.catalog.models import Model
from kaito.workspace.names import HTTP_PORT, config_map_name

DATA_DIR = "/mnt/data"
DATA_SOURCE_DIR = "/mnt/data-source"
WEIGHTS_DIR = "/workspace/weights"
RESULTS_DIR = "/mnt/results"
CONFIG_DIR = "/mnt/config"
ADAPTERS_DIR = "/mnt/adapters"
ADAPTER_SOURCE_DIR = "/mnt/adapter-source"
PUSH_SECRET_DIR = "/mnt/push-secret"  # noqa: S105 - a folder, not a secret
PULL_SECRET_DIR = "/mnt/pull-secret"  # noqa: S105 - a folder, not a secret
LOCAL_WEIGHTS = "local-weights"
LOCAL_WEIGHTS_ROOT = "/opt/kaito/models"
USER_ID = 1000
TOLERATIONS = [
    {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
    {"key": "nvidia.com/gpu", "operator": "Exists"},
    {"key": "amd.com/gpu", "operator": "Exists"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Equal", "value": "spot", "effect": "NoSchedule"},
]
"""Of the taints of GPU nodes: ours, those that the device plugins document, and that of Azure's spot pools."""
GPU_DOMAINS = ("nvidia.com/", "amd.com/")
WEIGHTS_SLACK = 80 * 2**30
"""Bytes of a weights volume beside the weights, as they may be unpacked or converted there."""
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Placement:
    """Where a pod may run, and what of the node's GPUs it takes: `gpus` of `gpu_resource`."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    gpu_resource: str = ""
    gpus: int = 0
    pull_secrets: tuple[str, ...] = ()
    """Secrets of the namespace that open the registry of the runtime image."""
    insecure_registries: tuple[str, ...] = ()
    """Registries that the steps may speak to over plain http."""
    weights_volume: Mapping[str, Any] = field(default_factory=lambda: {"emptyDir": {}})
    """The volume source that the weights are fetched into."""

    @property
    def limits(self) -> dict[str, str]:
        return {self.gpu_resource: str(self.gpus)} if self.gpu_resource and self.gpus else {}


Mounts = dict[str, dict[str, Any]]
"""Volumes by name: the volume source; where each is mounted is the container's affair."""


def step(
    name: str,
    image: str,
    workspace: Workspace,
    environment: Mapping[str, str | dict[str, Any]],
    mounts: Sequence[tuple[str, str]],
    *,
    command: str = "",
    limits: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A container that runs one step. `mounts` are (volume, path); a value that is a dict is a `valueFrom`."""
    values: dict[str, str | dict[str, Any]] = {
        "KAITO_WORKSPACE": workspace.metadata.name,
        "KAITO_NAMESPACE": workspace.metadata.namespace,
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of the pod's own
        **environment,
    }
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "command": ["kaito-runtime", command or name],
        "env": [
            {"name": key, "value": value} if isinstance(value, str) else {"name": key, "valueFrom": value}
            for key, value in values.items()
        ],
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in (*mounts, ("tmp", "/tmp"))],  # noqa: S108
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": RESTRICTED,
    }
    if limits:
        container["resources"] = {"limits": dict(limits), "requests": dict(limits)}
    return container


def read_only(container: dict[str, Any], *volumes: str) -> dict[str, Any]:
    """The same container with those volumes mounted read-only."""
    mounts = [{**m, "readOnly": True} if m["name"] in volumes else m for m in container["volumeMounts"]]
    return {**container, "volumeMounts": mounts}


def pod_spec(
    init_containers: list[dict[str, Any]],
    containers: list[dict[str, Any]],
    volumes: Mounts,
    placement: Placement,
    pull_secrets: Sequence[str] = (),
) -> dict[str, Any]:
    """A pod spec with the security that DESIGN asks for: not root, read-only root, no account token."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": tolerations(placement),
        "volumes": [{"name": name, **source} for name, source in {**volumes, "tmp": empty_dir()}.items()],
        "containers": containers,
    }
    if init_containers:
        spec["initContainers"] = init_containers
    if placement.insecure_registries:
        named = {"name": "KAITO_INSECURE_REGISTRIES", "value": ",".join(placement.insecure_registries)}
        for container in (*init_containers, *containers):
            container["env"] = [*container["env"], named]
    if placement.node_selector:
        spec["nodeSelector"] = dict(placement.node_selector)
    secrets = dict.fromkeys((*placement.pull_secrets, *pull_secrets))
    if secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    return spec


def tolerations(placement: Placement) -> list[dict[str, str]]:
    """Nodes that are cut into MIG devices may be tainted by the name of these."""
    own = {"key": placement.gpu_resource, "operator": "Exists"}
    known = [dict(toleration) for toleration in TOLERATIONS]
    is_known = not placement.gpu_resource or any(t["key"] == placement.gpu_resource for t in known)
    return known if is_known else [*known, own]


def weights_volume(storage_class: str, weights_bytes: int) -> dict[str, Any]:
    """Where the weights are fetched to: the node's disk, or a volume of the pod's own from a storage class."""
    if not storage_class:
        return empty_dir()
    size = -(-(weights_bytes + WEIGHTS_SLACK) // 2**30)
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": f"{size}Gi"}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": spec}}}


def empty_dir() -> dict[str, Any]:
    return {"emptyDir": {}}


def shared_memory() -> dict[str, Any]:
    """Shared memory for the processes of several GPUs; the default of 64 MiB is too small for them."""
    return {"emptyDir": {"medium": "Memory"}}


def config_volume(workspace: Workspace) -> dict[str, Any]:
    return {"configMap": {"name": config_map_name(workspace)}}


def registry_secret(name: str) -> dict[str, Any]:
    """A docker config from a Secret, as the file `config.json`."""
    return {"secret": {"secretName": name, "items": [{"key": ".dockerconfigjson", "path": "config.json"}]}}


def model_step(
    workspace: Workspace, image: str, preset: Preset, model: Model, placement: Placement
) -> tuple[dict[str, Any], Mounts]:
    """The init container `model`, which puts the weights into the volume `weights`."""
    options = preset.presetOptions
    source: dict[str, str] = {"image": options.image} if options.image else dict(model.source)
    described = msgspec.json.encode({"name": model.name, "source": source}).decode()
    environment: dict[str, str | dict[str, Any]] = {"KAITO_MODEL": described, "KAITO_MODEL_DIR": WEIGHTS_DIR}
    mounts, volumes = [("weights", WEIGHTS_DIR)], {"weights": dict(placement.weights_volume)}
    local = local_weights(workspace, preset)
    if local:
        described = msgspec.json.encode({"name": model.name, "source": {"path": local}}).decode()
        environment["KAITO_MODEL"] = described
        volumes[LOCAL_WEIGHTS] = {"hostPath": {"path": local, "type": "Directory"}}
        mounts += local_mounts(workspace, preset)
        return read_only(step("model", image, workspace, environment, mounts), LOCAL_WEIGHTS), volumes
    if options.modelAccessSecret:
        environment["HF_TOKEN"] = {"secretKeyRef": {"name": options.modelAccessSecret, "key": "HF_TOKEN"}}
    if options.image and options.imagePullSecrets:
        environment["KAITO_REGISTRY_AUTH"] = f"{PULL_SECRET_DIR}/config.json"
        mounts.append(("model-pull-secret", PULL_SECRET_DIR))
        volumes["model-pull-secret"] = registry_secret(options.imagePullSecrets[0])
    return step("model", image, workspace, environment, mounts), volumes


def local_weights(workspace: Workspace, preset: Preset) -> str:
    """The folder of the node that holds the preset's weights; empty unless the Workspace says to use it."""
    if workspace.metadata.annotations.get(ANNOTATION_LOCAL_WEIGHTS) != "true":
        return ""
    return f"{LOCAL_WEIGHTS_ROOT}/{preset.name.lower().replace('/', '-')}"


def local_mounts(workspace: Workspace, preset: Preset) -> list[tuple[str, str]]:
    """For every container that reads the model: its folder may hold links to the node's own, at the same path."""
    local = local_weights(workspace, preset)
    return [(LOCAL_WEIGHTS, local)] if local else []


def http_probe(path: str, **timing: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": HTTP_PORT}, **timing}
