"""The tuning Job: one pod whose init containers fetch, load and train, and whose main container publishes."""

from __future__ import annotations

from typing import Any

import msgspec

from kaito.api.workspace import (
    ANNOTATION_CHECKPOINT_IMAGE,
    ANNOTATION_HASH,
    DataDestination,
    DataSource,
    Preset,
    Workspace,
)
from kaito.catalog.models import Model
from kaito.workspace.names import ROLE_TUNE, TRAINING_CONFIG, child_metadata, pod_labels
from kaito.workspace.references import data_secret
from kaito.workspace.render.pods import (
    CONFIG_DIR,
    DATA_DIR,
    DATA_SOURCE_DIR,
    LOCAL_WEIGHTS,
    PULL_SECRET_DIR,
    PUSH_SECRET_DIR,
    RESULTS_DIR,
    WEIGHTS_DIR,
    Mounts,
    Placement,
    config_volume,
    empty_dir,
    local_mounts,
    model_step,
    pod_spec,
    read_only,
    registry_secret,
    shared_memory,
    step,
)

DATA_SECRET_DIR = "/mnt/data-secret"  # noqa: S105 - a folder, not a secret
CHECKPOINT_GRACE = 120
"""Seconds that a pod which leaves its node has to push its last checkpoint."""
BACKOFF_LIMIT = 6
"""Restarts of a step that a retry may help, before the Job fails; Kubernetes' own default."""


def render_job(
    workspace: Workspace,
    preset: Preset,
    model: Model,
    image: str,
    placement: Placement,
    job_hash: str,
    allow_data_from: tuple[str, ...],
) -> dict[str, Any]:
    """The Job of a tuning Workspace, whose `tuning` has been found valid."""
    tuning = workspace.tuning
    assert tuning is not None
    assert tuning.input is not None
    assert tuning.output is not None
    data, data_volumes = _data_step(workspace, image, tuning.input, allow_data_from)
    weights, weight_volumes = model_step(workspace, image, preset, model, placement)
    tune = _tune_step(workspace, image, preset, model, placement, tuning.output)
    publish, publish_volumes = _publish_step(workspace, image, model, tuning.output)
    volumes: Mounts = {
        "data": empty_dir(),
        "results": dict(tuning.output.volumeSource) if tuning.output.volumeSource else empty_dir(),
        "config": config_volume(workspace),
        "dshm": shared_memory(),
        **data_volumes,
        **weight_volumes,
        **publish_volumes,
    }
    spec = pod_spec([data, weights, tune], [publish], volumes, placement, preset.presetOptions.imagePullSecrets)
    spec["restartPolicy"] = "OnFailure"
    if _checkpoint_image(workspace):
        spec["terminationGracePeriodSeconds"] = CHECKPOINT_GRACE
    annotations = {ANNOTATION_HASH: job_hash, "kubectl.kubernetes.io/default-container": "tune"}
    template = {"metadata": {"labels": pod_labels(workspace, ROLE_TUNE), "annotations": annotations}, "spec": spec}
    return {
        "metadata": child_metadata(workspace, workspace.metadata.name, {ANNOTATION_HASH: job_hash}),
        "spec": {"backoffLimit": BACKOFF_LIMIT, "completions": 1, "parallelism": 1, "template": template},
    }


def _data_step(
    workspace: Workspace, image: str, source: DataSource, allow: tuple[str, ...]
) -> tuple[dict[str, Any], Mounts]:
    environment: dict[str, str | dict[str, Any]] = {
        "KAITO_CONFIG": f"{CONFIG_DIR}/{TRAINING_CONFIG}",
        "KAITO_DATA_DIR": DATA_DIR,
    }
    mounts, volumes = [("data", DATA_DIR), ("config", CONFIG_DIR)], Mounts()
    if allow:
        environment["KAITO_DATA_ALLOW"] = ",".join(allow)
    if source.urls:
        environment["KAITO_DATA_URLS"] = msgspec.json.encode(source.urls).decode()
        if data_secret(workspace):
            environment["KAITO_DATA_AUTHORIZATION"] = f"{DATA_SECRET_DIR}/authorization"
            mounts.append(("data-secret", DATA_SECRET_DIR))
            volumes["data-secret"] = {"secret": {"secretName": data_secret(workspace)}}
    elif source.image:
        environment["KAITO_DATA_IMAGE"] = source.image
        if source.imagePullSecrets:
            environment["KAITO_REGISTRY_AUTH"] = f"{PULL_SECRET_DIR}/config.json"
            mounts.append(("data-pull-secret", PULL_SECRET_DIR))
            volumes["data-pull-secret"] = registry_secret(source.imagePullSecrets[0])
    else:
        environment["KAITO_DATA_SOURCE_DIR"] = DATA_SOURCE_DIR
        mounts.append(("data-source", DATA_SOURCE_DIR))
        volumes["data-source"] = dict(source.volumeSource or {})
    return read_only(
        step("data", image, workspace, environment, mounts), "data-source", "data-secret", "config"
    ), volumes


def _tune_step(
    workspace: Workspace, image: str, preset: Preset, model: Model, placement: Placement, output: DataDestination
) -> dict[str, Any]:
    assert workspace.tuning is not None
    environment: dict[str, str | dict[str, Any]] = {
        "KAITO_CONFIG": f"{CONFIG_DIR}/{TRAINING_CONFIG}",
        "KAITO_DATA_DIR": DATA_DIR,
        "KAITO_MODEL_DIR": WEIGHTS_DIR,
        "KAITO_OUTPUT_DIR": RESULTS_DIR,
        "KAITO_PRESET": model.name,
        "KAITO_METHOD": workspace.tuning.method.lower(),
    }
    mounts = [
        ("data", DATA_DIR),
        ("weights", WEIGHTS_DIR),
        ("results", RESULTS_DIR),
        ("config", CONFIG_DIR),
        ("dshm", "/dev/shm"),  # noqa: S108 - shared memory of the pod's own
        *local_mounts(workspace, preset),
    ]
    if _checkpoint_image(workspace):
        environment["KAITO_CHECKPOINT_IMAGE"] = _checkpoint_image(workspace)
        _use_push_secret(output, environment, mounts)
    container = step("tune", image, workspace, environment, mounts, limits=placement.limits)
    return read_only(container, "data", "weights", "config", "push-secret", LOCAL_WEIGHTS)


def _checkpoint_image(workspace: Workspace) -> str:
    return workspace.metadata.annotations.get(ANNOTATION_CHECKPOINT_IMAGE, "")


def _use_push_secret(
    output: DataDestination, environment: dict[str, str | dict[str, Any]], mounts: list[tuple[str, str]]
) -> None:
    if output.imagePushSecret:
        environment["KAITO_REGISTRY_AUTH"] = f"{PUSH_SECRET_DIR}/config.json"
        environment["KAITO_PUSH_SECRET"] = output.imagePushSecret
        mounts.append(("push-secret", PUSH_SECRET_DIR))


def _publish_step(
    workspace: Workspace, image: str, model: Model, output: DataDestination
) -> tuple[dict[str, Any], Mounts]:
    environment: dict[str, str | dict[str, Any]] = {"KAITO_OUTPUT_DIR": RESULTS_DIR, "KAITO_PRESET": model.name}
    mounts, volumes = [("results", RESULTS_DIR)], Mounts()
    if output.image:
        environment["KAITO_OUTPUT_IMAGE"] = output.image
    if _checkpoint_image(workspace):
        environment["KAITO_CHECKPOINT_IMAGE"] = _checkpoint_image(workspace)
    _use_push_secret(output, environment, mounts)
    if output.imagePushSecret:
        volumes["push-secret"] = registry_secret(output.imagePushSecret)
    return read_only(step("publish", image, workspace, environment, mounts), "push-secret"), volumes
