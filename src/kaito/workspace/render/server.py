"""The server of a preset: a Deployment on one node, a StatefulSet on several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kaito.api.workspace import ANNOTATION_HASH, Preset, Workspace
from kaito.catalog.models import Model
from kaito.workspace.names import (
    HTTP_PORT,
    INFERENCE_CONFIG,
    ROLE_SERVE,
    child_metadata,
    digest,
    headless_name,
    pod_labels,
)
from kaito.workspace.render.distributed import distribute
from kaito.workspace.render.pods import (
    ADAPTER_SOURCE_DIR,
    ADAPTERS_DIR,
    CONFIG_DIR,
    LOCAL_WEIGHTS,
    PULL_SECRET_DIR,
    WEIGHTS_DIR,
    Mounts,
    Placement,
    config_volume,
    empty_dir,
    http_probe,
    local_mounts,
    model_step,
    pod_spec,
    read_only,
    registry_secret,
    shared_memory,
    step,
)

GRACE_SECONDS = 60
"""From SIGTERM to the end: to leave the Service, to finish answers, and to end the engine."""
DRAIN_SECONDS = 40
"""Of these to finish what was accepted."""


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter to serve: from an image (a reference, by digest where known) or from a volume."""

    name: str
    image: str = ""
    volume_source: dict[str, Any] | None = None
    sub_path: str = ""
    """The folder of the volume that holds the adapter's files; empty for the volume itself."""
    pull_secret: str = ""
    strength: str = "1.0"


@dataclass(frozen=True)
class Server:
    """What to serve, and how."""

    workspace: Workspace
    preset: Preset
    model: Model
    image: str
    placement: Placement
    nodes: int = 1
    adapters: Sequence[ServedAdapter] = ()
    default_model: str = ""
    config_text: str = ""
    """The resolved inference config; empty where the server gets none."""
    engine: str = "auto"
    startup_seconds: int = 1800
    beside: bool = False
    """Whether a new server may start beside the old one."""
    environment: dict[str, str] = field(default_factory=dict)


def render_server(server: Server) -> dict[str, Any]:
    """The Deployment of a preset on one node, or the StatefulSet of one on several."""
    template = _template(server)
    return render_workload(
        server.workspace,
        template,
        server.nodes,
        beside=server.beside,
        startup_seconds=server.startup_seconds,
        config_text=server.config_text,
    )


def render_workload(
    workspace: Workspace,
    template: dict[str, Any],
    nodes: int,
    *,
    beside: bool,
    startup_seconds: int = 0,
    config_text: str = "",
) -> dict[str, Any]:
    """The workload around a pod template, which gets the hash of all that made it."""
    wanted = digest({"template": template, "config": config_text})
    metadata = template["metadata"]
    hashed = {**template, "metadata": {**metadata, "annotations": {**metadata["annotations"], ANNOTATION_HASH: wanted}}}
    spec: dict[str, Any] = {
        "replicas": nodes,
        "selector": {"matchLabels": pod_labels(workspace, ROLE_SERVE)},
        "template": hashed,
    }
    if nodes > 1:
        # The pods of one server need each other to start, so none may wait for the one before it.
        spec |= {"serviceName": headless_name(workspace), "podManagementPolicy": "Parallel"}
    else:
        # Where no second server fits, the first has to make room for it.
        rolling = {"maxSurge": 1, "maxUnavailable": 0} if beside else {"maxSurge": 0, "maxUnavailable": 1}
        spec |= {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}
        spec |= {"progressDeadlineSeconds": startup_seconds + 600}
    return {"metadata": child_metadata(workspace, workspace.metadata.name, {ANNOTATION_HASH: wanted}), "spec": spec}


def _template(server: Server) -> dict[str, Any]:
    weights, volumes = model_step(server.workspace, server.image, server.preset, server.model, server.placement)
    init_containers = [weights]
    volumes |= {"dshm": shared_memory()}
    if server.config_text:
        volumes["config"] = config_volume(server.workspace)
    for adapter in server.adapters:
        container, adapter_volumes = _adapter_step(server, adapter)
        init_containers.append(container)
        volumes |= adapter_volumes
    spec = pod_spec(
        init_containers, [_serve_step(server)], volumes, server.placement, server.preset.presetOptions.imagePullSecrets
    )
    spec["terminationGracePeriodSeconds"] = GRACE_SECONDS
    annotations = {"kubectl.kubernetes.io/default-container": "serve"}
    return {"metadata": {"labels": pod_labels(server.workspace, ROLE_SERVE), "annotations": annotations}, "spec": spec}


def _adapter_step(server: Server, adapter: ServedAdapter) -> tuple[dict[str, Any], Mounts]:
    """An init container that puts the adapter of an image, or of a volume, where the server looks for it."""
    label = _volume_name(adapter.name)
    environment: dict[str, str | dict[str, Any]] = {"KAITO_ADAPTER_DIR": f"{ADAPTERS_DIR}/{adapter.name}"}
    mounts, volumes = [("adapters", ADAPTERS_DIR)], {"adapters": empty_dir()}
    if adapter.volume_source is not None:
        folder = f"{ADAPTER_SOURCE_DIR}/{adapter.sub_path}".rstrip("/")
        environment["KAITO_ADAPTER_SOURCE_DIR"] = folder
        mounts.append((f"source-{label}", ADAPTER_SOURCE_DIR))
        volumes[f"source-{label}"] = dict(adapter.volume_source)
    else:
        environment["KAITO_ADAPTER_IMAGE"] = adapter.image
    if adapter.pull_secret:
        environment["KAITO_REGISTRY_AUTH"] = f"{PULL_SECRET_DIR}/config.json"
        mounts.append((f"pull-{label}", PULL_SECRET_DIR))
        volumes[f"pull-{label}"] = registry_secret(adapter.pull_secret)
    container = step(f"adapter-{label}", server.image, server.workspace, environment, mounts, command="adapter")
    return read_only(container, f"source-{label}", f"pull-{label}"), volumes


def _volume_name(name: str) -> str:
    """Names of volumes and containers are DNS labels, those of adapters may have dots and be longer."""
    return (
        name if len(name) <= 50 and "." not in name else f"{name.replace('.', '-')[:40].rstrip('-')}-{digest(name)[:8]}"
    )


def _serve_step(server: Server) -> dict[str, Any]:
    environment: dict[str, str | dict[str, Any]] = {
        "KAITO_MODEL_DIR": WEIGHTS_DIR,
        "KAITO_PRESET": server.model.name,
        "KAITO_SERVED_MODEL_NAME": server.model.name,
        "KAITO_ENGINE": server.engine,
        "KAITO_DRAIN_TIMEOUT": str(DRAIN_SECONDS),
        **server.environment,
    }
    mounts = [("weights", WEIGHTS_DIR), ("dshm", "/dev/shm")]  # noqa: S108 - shared memory of the pod's own
    mounts += local_mounts(server.workspace, server.preset)
    if server.config_text:
        environment["KAITO_CONFIG"] = f"{CONFIG_DIR}/{INFERENCE_CONFIG}"
        mounts.append(("config", CONFIG_DIR))
    if server.adapters:
        named = [{"name": adapter.name, "strength": adapter.strength} for adapter in server.adapters]
        mounts.append(("adapters", ADAPTERS_DIR))
        environment["KAITO_ADAPTERS_DIR"] = ADAPTERS_DIR
        environment["KAITO_ADAPTERS"] = msgspec.json.encode(named).decode()
    if server.default_model:
        environment["KAITO_DEFAULT_MODEL"] = server.default_model
    container = step("serve", server.image, server.workspace, environment, mounts, limits=server.placement.limits)
    container = read_only(container, "weights", "config", "adapters", LOCAL_WEIGHTS)
    container["ports"] = [{"name": "http", "containerPort": HTTP_PORT}]
    tries = max(1, server.startup_seconds // 2)
    if server.nodes > 1:
        return distribute(container, server.workspace, server.nodes, tries)
    container["startupProbe"] = http_probe("/health", periodSeconds=2, failureThreshold=tries, timeoutSeconds=5)
    container["livenessProbe"] = http_probe("/health", periodSeconds=10, failureThreshold=6, timeoutSeconds=10)
    container["readinessProbe"] = http_probe("/health", periodSeconds=2, failureThreshold=3, timeoutSeconds=5)
    return container
