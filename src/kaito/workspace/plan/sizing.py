"""How much the model needs on this instance type: nodes, GPUs of each, and the estimate for people."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kaito.api.workspace import ANNOTATION_BYPASS_CHECKS, EstimateStatus, Workspace
from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.catalog.models import Model, find_model
from kaito.estimate import Estimate
from kaito.estimate.hardware import BUILT_IN
from kaito.estimate.request import estimate_request, read_request
from kaito.workspace.causes import Cause
from kaito.workspace.observe import Observed
from kaito.workspace.plan.byo import existing_instance
from kaito.workspace.references import named_preset

GPU_RESOURCE = "nvidia.com/gpu"
GIB = 2**30


@dataclass(frozen=True)
class Sizing:
    model: Model | None = None
    instance: InstanceType | None = None
    estimate: Estimate | None = None
    nodes: int = 1
    gpus: int = 0
    """GPUs that the work takes of each node; 0 when a template says that itself."""
    gpu_resource: str = GPU_RESOURCE
    cause: Cause | None = None
    """Why the work cannot run on such nodes at all."""

    @property
    def weights_bytes(self) -> int:
        figures = self.model.figures if self.model else None
        return (figures.weights_bytes or 0) if figures else 0

    @property
    def words(self) -> str:
        """The estimate in one sentence; empty where there is none."""
        return self.estimate.why if self.estimate else ""

    @property
    def status(self) -> EstimateStatus | None:
        """The estimate in the status's words."""
        if self.estimate is None:
            return None
        return EstimateStatus(
            weights=_gi(self.estimate.weights_bytes),
            kvCache=_gi(self.estimate.kv_cache_bytes),
            overhead=_gi(self.estimate.overhead_bytes),
            perGPU=_gi(self.estimate.per_gpu_bytes),
            nodes=self.estimate.nodes,
            why=self.estimate.why,
        )


def plan_sizing(observed: Observed, config_text: str = "") -> Sizing:
    """From a Workspace that has been found valid; without `config_text` the preset's own defaults count."""
    workspace = observed.workspace
    preset = named_preset(workspace)
    asked = workspace.resource.count or 1
    if preset is None:
        return Sizing(nodes=asked)
    model = find_model(preset.name)
    instance = _instance(observed)
    if isinstance(instance, Cause):
        return Sizing(model=model, nodes=asked, cause=instance)
    if model is None or instance is None:
        return Sizing(model=model, nodes=asked, gpus=1)
    sized = Sizing(model, instance, None, asked, instance.gpu_count, instance.resource or GPU_RESOURCE)
    if not instance.gpu_memory_mib:
        return sized
    estimate = estimate_request(read_request(workspace, model, config_text), model, instance)
    cause = None if _may_fit(workspace, model, instance, estimate) else _cause_of_misfit(workspace, estimate)
    return replace(sized, estimate=estimate, nodes=max(estimate.nodes, _least(estimate, asked)), cause=cause)


def _instance(observed: Observed) -> InstanceType | Cause | None:
    if observed.settings.node_mode == "byo":
        return existing_instance(observed)
    return find_instance_type(observed.workspace.resource.instanceType)


def _least(estimate: Estimate, asked: int) -> int:
    """Where the memory is not known, the user's count is all there is to go by."""
    return 1 if estimate.weights_bytes else asked


def _may_fit(workspace: Workspace, model: Model, instance: InstanceType, estimate: Estimate) -> bool:
    """Whether to try what the estimate would not: weights that one GPU can hold, in the built-in engine.

    That engine is not given a share of the memory but takes what there is, and KAITO v0.3 served its models on such
    GPUs. Where it does not fit after all, the server says so, beside the estimate.
    """
    one = instance.gpu_memory_mib * 2**20
    is_plain = estimate.engine == BUILT_IN and not model.quantization
    return workspace.inference is not None and is_plain and estimate.weights_bytes <= one


def _cause_of_misfit(workspace: Workspace, estimate: Estimate) -> Cause | None:
    if estimate.fits or ANNOTATION_BYPASS_CHECKS in workspace.metadata.annotations:
        return None
    lacking = "more GPU memory" if estimate.per_gpu_bytes > estimate.usable_bytes else "newer GPUs, or another method"
    hint = f"Choose an instance type with {lacking}, or add the annotation {ANNOTATION_BYPASS_CHECKS}."
    return Cause("InsufficientGPUMemory", estimate.why, hint, "you", is_final=True)


def cause_of_smallness(workspace: Workspace, sizing: Sizing, count: int) -> Cause | None:
    """The coarse check of admission: weights that are more than all GPUs hold. All else is the estimate's affair."""
    instance = sizing.instance
    count = 1 if workspace.resource.partition else count
    if instance is None or not instance.gpu_memory_mib or ANNOTATION_BYPASS_CHECKS in workspace.metadata.annotations:
        return None
    there = instance.gpu_count * instance.gpu_memory_mib * 2**20 * count
    if sizing.weights_bytes <= there:
        return None
    name = sizing.model.name if sizing.model else ""
    message = f"The weights of {name} take {_gi(sizing.weights_bytes)}, and {count} x {instance.name} has {_gi(there)}"
    hint = f"Choose larger nodes, or add the annotation {ANNOTATION_BYPASS_CHECKS}."
    return Cause("InsufficientGPUMemory", message, hint, "you", is_final=True)


def _gi(size: int) -> str:
    return f"{size / GIB:.2f}Gi" if size >= GIB // 10 else f"{size / 2**20:.1f}Mi"
