"""What in a Workspace will be ignored or will fail on its instance type: said by `kaito plan` and by admission."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kaito.api.workspace import (
    ANNOTATION_BYPASS_CHECKS,
    ANNOTATION_SERVE_AFTER_TUNING,
    Workspace,
)
from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.catalog.models import Model, find_model
from kaito.estimate.hardware import VLLM_ENGINE
from kaito.estimate.request import Request, estimate_request, read_request, served_after
from kaito.estimate.result import Estimate, in_words
from kaito.estimate.serving import plan_serving

TIGHT = 0.95
"""The most of a GPU's memory that vLLM is commonly given."""


def advise(
    workspace: Workspace, model: Model, instance: InstanceType, request: Request, estimate: Estimate
) -> Iterator[str]:
    """One sentence each; the verdict itself is not among them."""
    count = workspace.resource.count
    # 1 is what the API server fills in where a manifest names none.
    if count not in (None, 1) and estimate.weights_bytes and count != estimate.nodes and estimate.fits:
        yield f"resource.count: {count} is not acted on; the model takes {estimate.nodes} node(s)"
    if instance.architecture != "amd64":
        yield f"{instance.name} is {instance.architecture}: every image has to be built for it"
    if request.tuning and estimate.fits and 0 < estimate.batch_size < request.tuning.batch:
        yield f"a batch of {request.tuning.batch} does not fit: the run halves it until it does"
    figures = model.figures
    limit = figures.context_length if figures else None
    if request.tuning and limit and request.tuning.length > limit:
        yield f"max_length: {request.tuning.length} is more than the {limit} tokens that the model can take"
    yield from _gated(workspace, model)
    yield from _after_tuning(workspace, model, instance, request, estimate)


def remarks(model: Model, instance: InstanceType, request: Request, estimate: Estimate) -> Iterator[str]:
    """What is worth a line in a plan, and not one at every apply."""
    if instance.note:
        yield f"{instance.name}: {instance.note}"
    yield from estimate.notes
    yield from _tighter(model, instance, request, estimate)


def _tighter(model: Model, instance: InstanceType, request: Request, estimate: Estimate) -> Iterator[str]:
    """What a practitioner tries before paying for more nodes: less memory left free."""
    if request.serving is None or request.serving.utilization >= TIGHT or estimate.engine != VLLM_ENGINE:
        return
    other = plan_serving(model, instance, replace(request.serving, utilization=TIGHT))
    if other.fits and (not estimate.fits or other.nodes < estimate.nodes):
        nodes = "one node does" if other.nodes == 1 else f"{other.nodes} nodes do"
        yield f"with gpu-memory-utilization: {TIGHT} in its config {nodes}, up to {other.longest_context} tokens"


def _gated(workspace: Workspace, model: Model) -> Iterator[str]:
    work = workspace.tuning or workspace.inference
    options = work.preset.presetOptions if work and work.preset else None
    if model.is_gated and options is not None and not options.modelAccessSecret and not options.image:
        yield (
            f"{model.huggingface} is gated: name a Secret with HF_TOKEN in preset.presetOptions.modelAccessSecret, "
            "or its download is refused"
        )


def _after_tuning(
    workspace: Workspace, model: Model, instance: InstanceType, request: Request, estimate: Estimate
) -> Iterator[str]:
    after = served_after(request, model, instance)
    if after is None or workspace.metadata.annotations.get(ANNOTATION_SERVE_AFTER_TUNING) == "false":
        return
    if estimate.fits and (not after.fits or after.nodes > 1):
        yield (
            f"the tuned model cannot be served on the one {instance.name} that tunes it: serving needs "
            f"{in_words(after.weights_bytes)} of weights in 16 bit; use more GPU memory, or set the annotation "
            f'{ANNOTATION_SERVE_AFTER_TUNING}: "false" and serve the adapter elsewhere'
        )


def admission_advice(workspace: Workspace) -> list[str]:
    """For a Workspace that names its instance type; its ConfigMap is not known here."""
    work = workspace.tuning or workspace.inference
    preset = work.preset if work else None
    model = find_model(preset.name) if preset else None
    instance = find_instance_type(workspace.resource.instanceType)
    if model is None or instance is None or ANNOTATION_BYPASS_CHECKS in workspace.metadata.annotations:
        return []
    request = read_request(workspace, model)
    estimate = estimate_request(request, model, instance)
    verdict = [] if estimate.fits or (work and work.config) else [f"it does not fit: {estimate.why}"]
    return [*verdict, *advise(workspace, model, instance, request, estimate)]
