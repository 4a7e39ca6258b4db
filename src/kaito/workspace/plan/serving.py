"""The server: a workload, its Services, and whether it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kaito.api.core import Pod, Workload
from kaito.api.meta import Condition
from kaito.api.workspace import (
    ANNOTATION_HASH,
    ANNOTATION_SERVE_AFTER_TUNING,
    Preset,
    TuningStatus,
    Workspace,
    runtime_of,
)
from kaito.kube.resources import DEPLOYMENTS, SERVICES, STATEFUL_SETS, Resource
from kaito.workspace.actions import Action, Apply, Delete
from kaito.workspace.causes import Cause
from kaito.workspace.explain.pods import cause_of_pod, cause_of_refused_pods
from kaito.workspace.names import LABEL_ROLE, ROLE_SERVE
from kaito.workspace.observe import Observed
from kaito.workspace.plan.inputs import Inputs
from kaito.workspace.plan.nodes import NodePlan
from kaito.workspace.plan.rollout import fits_beside, template_fits_beside
from kaito.workspace.plan.sizing import Sizing
from kaito.workspace.references import named_preset
from kaito.workspace.render.server import ServedAdapter, Server, render_server
from kaito.workspace.render.services import render_headless, render_service
from kaito.workspace.render.template import render_template

STARTUP_BASE = 1800
STARTUP_PER_GIB = 18
STARTUP_LIMIT = 10800


MIGRATING = Cause("WorkloadMigration", "The server of an earlier KAITO makes room for ours")


@dataclass(frozen=True)
class ServingPlan:
    actions: tuple[Action, ...]
    condition: Condition | None
    """InferenceReady; None when nothing is to be served."""
    cause: Cause | None = None
    """Why it is not ready; None when it is, or when nothing is to be served."""


def serves(workspace: Workspace) -> bool:
    """Whether the Workspace ends as a server: inference does, and tuning unless it is told not to."""
    after = workspace.metadata.annotations.get(ANNOTATION_SERVE_AFTER_TUNING)
    return workspace.inference is not None or after != "false"


def plan_serving(
    observed: Observed, inputs: Inputs, sizing: Sizing, nodes: NodePlan, tuned: TuningStatus | None
) -> ServingPlan:
    """`tuned` is the finished training of a tuning Workspace, None for an inference Workspace."""
    workspace = observed.workspace
    namespace = workspace.metadata.namespace
    services = _services(workspace, sizing)
    workload = observed.stateful_set if sizing.nodes > 1 else observed.deployment
    blocked = inputs.missing or nodes.cause
    if blocked is not None and workload is None:
        return ServingPlan(services, _not_ready(blocked), blocked)
    earlier = _earlier(observed, sizing, workload) if inputs.missing is None else None
    if earlier is not None:
        return ServingPlan((*services, *earlier), _not_ready(MIGRATING), MIGRATING)
    body = _workload(observed, inputs, sizing, nodes, tuned)
    actions: tuple[Action, ...] = services
    if inputs.missing is None:
        kind = STATEFUL_SETS if sizing.nodes > 1 else DEPLOYMENTS
        actions = (*services, *_other_shape(observed, sizing), Apply(kind, namespace, body))
    cause = _cause_of_server(observed, workload, body["metadata"]["annotations"][ANNOTATION_HASH], sizing)
    return ServingPlan(actions, _not_ready(cause) if cause else _READY, cause)


def _services(workspace: Workspace, sizing: Sizing) -> tuple[Action, ...]:
    namespace = workspace.metadata.namespace
    is_split = sizing.nodes > 1 and named_preset(workspace) is not None
    service = Apply(SERVICES, namespace, render_service(workspace, leader_only=is_split))
    return (service, Apply(SERVICES, namespace, render_headless(workspace))) if sizing.nodes > 1 else (service,)


def _earlier(observed: Observed, sizing: Sizing, workload: Workload | None) -> tuple[Action, ...] | None:
    """Deletions of an earlier KAITO's servers, whose selectors cannot be changed into ours; None where there are none.

    They hold the GPUs, and a workload of ours may have their name.
    """
    deletions = [Delete(one.resource, one.namespace, one.name, one.uid) for one in observed.legacy]
    if workload is not None and ANNOTATION_HASH not in workload.metadata.annotations:
        if workload.metadata.deletionTimestamp is not None:
            return tuple(deletions)
        deletions.append(_delete(STATEFUL_SETS if sizing.nodes > 1 else DEPLOYMENTS, workload))
    return tuple(deletions) or None


def _other_shape(observed: Observed, sizing: Sizing) -> tuple[Action, ...]:
    """A server that came to need more nodes, or fewer, changes its kind of workload; both cannot have the GPUs."""
    kind, other = (DEPLOYMENTS, observed.deployment) if sizing.nodes > 1 else (STATEFUL_SETS, observed.stateful_set)
    if other is None or other.metadata.deletionTimestamp is not None:
        return ()
    return (_delete(kind, other),)


def _delete(kind: Resource[Workload], workload: Workload) -> Delete:
    metadata = workload.metadata
    return Delete(kind, metadata.namespace, metadata.name, metadata.uid)


def _workload(
    observed: Observed, inputs: Inputs, sizing: Sizing, nodes: NodePlan, tuned: TuningStatus | None
) -> dict[str, Any]:
    workspace = observed.workspace
    preset = named_preset(workspace)
    if preset is None:
        template = workspace.inference.template if workspace.inference else None
        beside = template_fits_beside(observed, nodes.placement, template or {})
        return render_template(workspace, template or {}, nodes.placement, sizing.nodes, beside=beside)
    return render_server(_server(observed, inputs, sizing, nodes, preset, tuned))


def pending_serving(cause: Cause) -> ServingPlan:
    """Serving waits for something before it: the training, or a mended spec."""
    return ServingPlan((), _not_ready(cause), cause)


def stop_serving(observed: Observed, cause: Cause) -> ServingPlan:
    """What was tuned may not be served: a server that the gate now shuts out goes away."""
    server = observed.deployment
    if server is None or server.metadata.deletionTimestamp is not None:
        return pending_serving(cause)
    return ServingPlan((_delete(DEPLOYMENTS, server),), _not_ready(cause), cause)


def _server(
    observed: Observed,
    inputs: Inputs,
    sizing: Sizing,
    nodes: NodePlan,
    preset: Preset,
    tuned: TuningStatus | None,
) -> Server:
    workspace = observed.workspace
    assert sizing.model is not None
    adapters = [_tuned_adapter(workspace, tuned)] if tuned else _adapters(workspace)
    return Server(
        workspace=workspace,
        preset=preset,
        model=sizing.model,
        image=observed.settings.runtime_image,
        placement=nodes.placement,
        nodes=sizing.nodes,
        adapters=adapters,
        default_model=workspace.metadata.name if tuned else "",
        config_text="" if tuned else inputs.config_text,
        engine=runtime_of(workspace) or observed.settings.engine,
        beside=fits_beside(observed, nodes.placement),
        startup_seconds=min(STARTUP_LIMIT, STARTUP_BASE + STARTUP_PER_GIB * sizing.weights_bytes // 2**30),
    )


def _adapters(workspace: Workspace) -> list[ServedAdapter]:
    given = workspace.inference.adapters if workspace.inference else []
    return [
        ServedAdapter(
            name=adapter.source.name,
            image=adapter.source.image,
            volume_source=adapter.source.volumeSource,
            pull_secret=next(iter(adapter.source.imagePullSecrets), ""),
            strength=adapter.strength or "1.0",
        )
        for adapter in given
        if adapter.source is not None
    ]


def _tuned_adapter(workspace: Workspace, tuned: TuningStatus) -> ServedAdapter:
    """What the training made, under the Workspace's own name."""
    output = workspace.tuning.output if workspace.tuning else None
    assert output is not None
    name = workspace.metadata.name
    if output.volumeSource is not None:
        return ServedAdapter(name=name, volume_source=output.volumeSource, sub_path="adapter")
    adapter = tuned.adapter
    image = adapter.image if adapter else output.image
    if adapter and adapter.digest:
        image = f"{_without_tag(image)}@{adapter.digest}"
    return ServedAdapter(name=name, image=image, pull_secret=output.imagePushSecret)


def _without_tag(image: str) -> str:
    """The repository of a reference: a digest says all that a tag could."""
    repository = image.partition("@")[0]
    head, colon, tail = repository.rpartition(":")
    return head if colon and "/" not in tail else repository


def _cause_of_server(observed: Observed, workload: Workload | None, wanted: str, sizing: Sizing) -> Cause | None:
    """Why the server that is wanted does not answer yet; None when all of it does."""
    if workload is None or workload.metadata.annotations.get(ANNOTATION_HASH) != wanted:
        return Cause("PodStarting", "The pod is being started")
    pods = _of_now([pod for pod in observed.pods_of(LABEL_ROLE, ROLE_SERVE) if _is_current(pod, wanted)])
    if _is_rolled_out(workload) and len(pods) >= sizing.nodes and all(_is_ready(pod) for pod in pods):
        return None
    if pods:
        # Where all pods are ready, the workload's own status is about to follow.
        pod = next((pod for pod in reversed(pods) if not _is_ready(pod)), pods[-1])
        return cause_of_pod(pod, observed.progress.get(pod.metadata.uid), sizing.words)
    message = next((c.message for c in workload.status.conditions if c.type == "ReplicaFailure"), "")
    refused = cause_of_refused_pods(message or observed.refusal_of("StatefulSet"))
    return refused or Cause("PodStarting", "The pod is being started")


def _of_now(pods: list[Pod]) -> list[Pod]:
    """Without the ended ones that others have replaced: an evicted pod stays as a record until it is collected."""
    return [pod for pod in pods if pod.status.phase not in ("Failed", "Succeeded")] or pods


def _is_current(pod: Pod, wanted: str) -> bool:
    return pod.metadata.annotations.get(ANNOTATION_HASH) == wanted and pod.metadata.deletionTimestamp is None


def _is_ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def _is_rolled_out(workload: Workload) -> bool:
    status = workload.status
    return (
        status.observedGeneration >= workload.metadata.generation
        and status.updatedReplicas >= workload.spec.replicas
        and status.readyReplicas >= workload.spec.replicas
    )


def _not_ready(cause: Cause) -> Condition:
    return Condition("InferenceReady", "False", cause.reason, cause.text)


_READY = Condition("InferenceReady", "True", "WorkspaceInferenceStatusSuccess", "The model answers.")
