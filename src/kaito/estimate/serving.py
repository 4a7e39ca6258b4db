"""Serving: the smallest number of nodes, the parallelism on them, the context and the requests that fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from msgspec.structs import replace as replace_fields

from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Figures, Model
from kaito.estimate import activations, kv
from kaito.estimate.hardware import BUILT_IN, cannot_serve, engine_of, serving_notes
from kaito.estimate.layout import MAX_NODES, Layout, Parallelism, layouts, misfit, tensor_parallel
from kaito.estimate.lora import lora_parameters
from kaito.estimate.result import GIB, Estimate, in_words

USABLE_SHARE = 0.84
"""Of a GPU's memory that the engine is given (its `gpu-memory-utilization` here)."""
ENGINE_BYTES = int(1.3 * GIB)
"""CUDA context, kernels and graphs on each GPU. KAITO's 2.3 GiB covers the activations too."""
STEP_TOKENS = 8192
"""Tokens of one engine step (chunked prefill), which bound the activations."""
SEQUENCES = 256
"""Sequences of one step, which bound the logits and the requests at once (vLLM's `max-num-seqs`)."""
WEIGHT_SHARE = 1.02
"""Padding and alignment of loaded weights (KAITO's figure)."""
DEFAULT_CONTEXT = 2048
PLANNED = Parallelism()


@dataclass(frozen=True)
class Demand:
    """What is asked of the engine, beside the model itself."""

    context: int = DEFAULT_CONTEXT
    cache_bytes: int = kv.CACHE_BYTES
    adapters: int = 0
    adapter_rank: int = 16
    utilization: float = USABLE_SHARE
    step_tokens: int = STEP_TOKENS
    sequences: int = SEQUENCES
    parallelism: Parallelism = PLANNED
    runtime: str = ""
    """"vllm" or "transformers" where the user says; else by the GPU."""


def estimate_serving(
    model: Model,
    instance: InstanceType,
    *,
    context: int = DEFAULT_CONTEXT,
    cache_bytes: int = kv.CACHE_BYTES,
    adapters: int = 0,
    adapter_rank: int = 16,
) -> Estimate:
    """The smallest number of `instance` nodes that serve `model` with a request of `context` tokens.

    `cache_bytes` is 1 for an fp8 KV cache; `adapters` are held in memory at `adapter_rank`.
    """
    return plan_serving(model, instance, Demand(context, cache_bytes, adapters, adapter_rank))


def plan_serving(model: Model, instance: InstanceType, demand: Demand) -> Estimate:
    """As `estimate_serving`, with all that a user's config can say."""
    figures = model.figures
    if figures is None or figures.weights_bytes is None:
        return unknown(model, instance)
    if instance.gpu_count < 1 or instance.gpu_memory_mib < 1:
        return _no_gpu(model, figures, instance)
    engine = engine_of(instance, demand.runtime)
    demand = replace(demand, context=min(demand.context, figures.context_length or demand.context), runtime=engine)
    if reason := cannot_serve(model, instance, engine) or misfit(figures, demand.parallelism):
        return _refused(model, figures, instance, demand, f"{instance.name} cannot serve {model.name}: {reason}")
    usable = usable_bytes(instance, demand.utilization)
    for layout in _candidates(figures, instance, usable, demand):
        if per_gpu_bytes(model, figures, layout, demand) <= usable:
            return _fits(model, figures, instance, layout, demand)
    return _too_large(model, figures, instance, demand)


def _candidates(figures: Figures, instance: InstanceType, usable: int, demand: Demand) -> Iterator[Layout]:
    if demand.runtime == BUILT_IN:
        yield Layout(1, 1, 1, 1)  # it knows one GPU
    else:
        yield from layouts(figures, instance, usable, demand.parallelism)


def usable_bytes(instance: InstanceType, utilization: float = USABLE_SHARE) -> int:
    return int(instance.gpu_memory_mib * 2**20 * utilization)


def memory_parts(
    model: Model, figures: Figures, layout: Layout, demand: Demand, *, number_bytes: int = 2
) -> dict[str, int]:
    """Bytes on the fullest GPU by what they are for, with one request of `demand.context` tokens.

    Pipeline stages hold whole layers, so the fullest has `ceil(layers / stages)` of them. Activations are those of one
    engine step's tokens (chunked prefill), logits 32 bit for all sequences of a step; tensor parallelism cuts both.
    """
    layers = max(1, figures.layers or 1)
    stage = math.ceil(layers / layout.pipeline) / layers
    adapters = demand.adapters * lora_parameters(figures, demand.adapter_rank) * number_bytes
    parts = {
        "weights": math.ceil((figures.weights_bytes or 0) * WEIGHT_SHARE * stage / layout.tensor),
        "KV cache": math.ceil(_cache_bytes(figures, layout, demand) * stage),
        "adapters": math.ceil(adapters * stage / layout.tensor),
    }
    if not model.builtin:
        parts["activations"] = activations.forward_bytes(
            figures, demand.step_tokens, tensor=layout.tensor, number_bytes=number_bytes
        )
        parts["logits"] = demand.sequences * activations.vocabulary(figures) * 4 // layout.tensor
        parts["engine"] = ENGINE_BYTES
    return parts


def _cache_bytes(figures: Figures, layout: Layout, demand: Demand) -> int:
    return kv.bytes_for_context(figures, demand.context, cache_bytes=demand.cache_bytes, tensor_parallel=layout.tensor)


def per_gpu_bytes(model: Model, figures: Figures, layout: Layout, demand: Demand) -> int:
    """Bytes on the fullest GPU with one request of `demand.context` tokens."""
    return sum(memory_parts(model, figures, layout, demand).values())


def _overhead(parts: dict[str, int]) -> int:
    return sum(parts.values()) - parts["weights"] - parts["KV cache"]


def longest_context(model: Model, figures: Figures, layout: Layout, usable: int, demand: Demand) -> int:
    """Tokens of the longest single request, bounded by what the model was made for."""
    low, high = 0, figures.context_length or 2**20
    while low < high:
        middle = (low + high + 1) // 2
        if per_gpu_bytes(model, figures, layout, replace(demand, context=middle)) <= usable:
            low = middle
        else:
            high = middle - 1
    return low


def _requests_at_once(model: Model, figures: Figures, layout: Layout, usable: int, demand: Demand) -> int:
    """What the cache has room for, and no more than the engine takes into one step."""
    parts = memory_parts(model, figures, layout, demand)
    room = usable - (sum(parts.values()) - parts["KV cache"])
    fitting = room // parts["KV cache"] if parts["KV cache"] else demand.sequences
    return min(fitting, demand.sequences) * layout.data


def _fits(model: Model, figures: Figures, instance: InstanceType, layout: Layout, demand: Demand) -> Estimate:
    usable = usable_bytes(instance, demand.utilization)
    longest = longest_context(model, figures, layout, usable, demand)
    cache = kv.bytes_for_context(figures, demand.context, cache_bytes=demand.cache_bytes)
    why = (
        f"{model.name} has {in_words(figures.weights_bytes or 0)} of weights and {in_words(cache)} of KV cache at "
        f"{demand.context} tokens; {layout.nodes} x {instance.name} with {instance.gpu_count} GPU(s) of "
        f"{in_words(usable)} usable hold it, up to {longest} tokens"
    )
    return replace_fields(
        _estimate(model, figures, instance, layout, demand, why),
        longest_context=longest,
        requests_at_once=_requests_at_once(model, figures, layout, usable, demand),
        notes=tuple(_notes(model, figures, instance, layout, demand)),
    )


def _estimate(
    model: Model, figures: Figures, instance: InstanceType, layout: Layout, demand: Demand, why: str
) -> Estimate:
    parts = memory_parts(model, figures, layout, demand)
    return Estimate(
        fits=True,
        nodes=layout.nodes,
        gpus_per_node=instance.gpu_count,
        tensor_parallel=layout.tensor,
        pipeline_parallel=layout.pipeline,
        data_parallel=layout.data,
        weights_bytes=figures.weights_bytes or 0,
        kv_cache_bytes=kv.bytes_for_context(figures, demand.context, cache_bytes=demand.cache_bytes),
        overhead_bytes=_overhead(parts),
        per_gpu_bytes=sum(parts.values()),
        why=why,
        usable_bytes=usable_bytes(instance, demand.utilization),
        parts=parts,
        engine=demand.runtime,
        context=demand.context,
    )


def _notes(model: Model, figures: Figures, instance: InstanceType, layout: Layout, demand: Demand) -> Iterator[str]:
    heads = figures.kv_heads or figures.heads or 1
    used = layout.tensor * layout.pipeline * layout.data
    if layout.tensor > 1 and instance.nvlink is False:
        yield "the GPUs are not joined by NVLink: tensor parallelism runs over PCIe, pipeline stages may be faster"
    if figures.kv_lora_rank and layout.tensor > 1:
        yield "the compressed KV cache is the same on every GPU of the tensor-parallel group"
    elif layout.tensor > heads:
        yield f"{layout.tensor} GPUs share {heads} KV head(s), so the KV cache is held {layout.tensor // heads} times"
    if used < layout.nodes * instance.gpu_count:
        yield f"{used} of the {layout.nodes * instance.gpu_count} GPUs are used"
    elif layout.tensor < instance.gpu_count and layout.data == 1 and not demand.parallelism.is_given:
        kv_heads = f" and {heads} KV heads" if heads != figures.heads else ""
        yield (
            f"{figures.heads} attention heads{kv_heads} do not divide among {instance.gpu_count} GPUs, so they are "
            "pipeline stages too"
        )
    if layout.nodes > 1:
        yield "pipeline stages on several nodes talk over the network at every step"
    yield from serving_notes(model, instance, demand.runtime, demand.cache_bytes)


def _too_large(model: Model, figures: Figures, instance: InstanceType, demand: Demand) -> Estimate:
    """The sentence names what is in the way: the engine's own needs, the context, or the one GPU of the engine."""
    usable = usable_bytes(instance, demand.utilization)
    if demand.runtime == BUILT_IN or demand.parallelism.is_given:
        layout = next(iter(_candidates(figures, instance, usable, demand)))
        need = per_gpu_bytes(model, figures, layout, demand)
        where = "the built-in engine uses one GPU" if demand.runtime == BUILT_IN else "as its config spreads it"
        why = (
            f"{model.name} at {demand.context} tokens needs {in_words(need)} on a GPU, {where}, and {instance.name} "
            f"has {in_words(usable)} usable"
        )
        return _refused(model, figures, instance, demand, why)
    layout = Layout(1, tensor_parallel(figures, instance.gpu_count), 1, 1)
    overhead = _overhead(memory_parts(model, figures, layout, demand))
    why = (
        f"no number of {instance.name} up to {MAX_NODES} serves {model.name} at {demand.context} tokens: of the "
        f"{in_words(usable)} usable on a GPU the engine takes {in_words(overhead)}; a shorter context "
        "or larger GPUs are needed"
    )
    return _refused(model, figures, instance, demand, why)


def _refused(model: Model, figures: Figures, instance: InstanceType, demand: Demand, why: str) -> Estimate:
    tensor = 1 if demand.runtime == BUILT_IN else tensor_parallel(figures, instance.gpu_count)
    layout = Layout(1, tensor, 1, 1)
    return replace_fields(_estimate(model, figures, instance, layout, demand, why), fits=False)


def _no_gpu(model: Model, figures: Figures, instance: InstanceType) -> Estimate:
    if model.builtin:
        why = f"{model.name} runs on the CPU of {instance.name}"
    else:
        why = f"{instance.name} has no GPU memory that is known, so nothing says that {model.name} fits it"
    weights = figures.weights_bytes or 0
    return Estimate(bool(model.builtin), 1, instance.gpu_count, 1, 1, 1, weights, 0, 0, weights, why)


def unknown(model: Model, instance: InstanceType) -> Estimate:
    """For a model whose figures are not known: one node, and the sentence says that it is assumed."""
    why = f"{model.name} is not in the catalogue, so its memory is not known; one node of {instance.name} is assumed"
    gpus = instance.gpu_count
    return Estimate(True, 1, gpus, gpus, 1, 1, 0, 0, 0, 0, why, usable_bytes(instance))
