"""Serving: the smallest number of nodes, the parallelism on them, the context and the requests that fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Figures, Model
from kaito.estimate import kv
from kaito.estimate.result import GIB, Estimate, in_words

USABLE_SHARE = 0.84
"""Of a GPU's memory that the engine is given (its `gpu-memory-utilization` here)."""
ENGINE_BYTES = int(1.3 * GIB)
"""CUDA context, kernels and graphs on each GPU. KAITO's 2.3 GiB covers the activations too."""
STEP_TOKENS = 8192
"""Tokens of one engine step (chunked prefill), which bound the activations."""
SEQUENCES = 256
"""Sequences of one step, which bound the logits."""
WEIGHT_SHARE = 1.02
"""Padding and alignment of loaded weights (KAITO's figure)."""
MAX_NODES = 64
DEFAULT_CONTEXT = 2048
DEFAULT_VOCABULARY = 150_000


@dataclass(frozen=True)
class Layout:
    """How the model is spread: `tensor` within a node, `pipeline` over nodes, `data` copies of it."""

    nodes: int
    tensor: int
    pipeline: int
    data: int


def estimate_serving(model: Model, instance: InstanceType, *, context: int = DEFAULT_CONTEXT) -> Estimate:
    """The smallest number of `instance` nodes that serve `model` with a request of `context` tokens."""
    figures = model.figures
    if figures is None or figures.weights_bytes is None:
        return unknown(model, instance)
    context = min(context, figures.context_length or context)
    usable = usable_bytes(instance)
    for layout in _layouts(figures, instance):
        if _per_gpu(model, figures, layout, context) <= usable:
            return _fits(model, figures, instance, layout, context)
    return _too_large(model, figures, instance, context)


def usable_bytes(instance: InstanceType) -> int:
    return int(instance.gpu_memory_mib * 2**20 * USABLE_SHARE)


def tensor_parallel(figures: Figures, gpus: int) -> int:
    """The most GPUs of a node among which the attention heads divide."""
    heads = figures.heads or gpus
    return max(size for size in range(1, gpus + 1) if gpus % size == 0 and heads % size == 0)


def _layouts(figures: Figures, instance: InstanceType) -> Iterator[Layout]:
    """Candidates, the preferred first: copies on single GPUs of one node, then a node, then more nodes."""
    gpus = instance.gpu_count
    weights = figures.weights_bytes or 0
    if gpus > 1 and weights * 2 <= usable_bytes(instance):
        yield Layout(1, 1, 1, gpus)
    tensor = tensor_parallel(figures, gpus)
    for nodes in range(1, MAX_NODES + 1):
        stages = nodes * (gpus // tensor)
        if stages <= max(1, figures.layers or 1):
            yield Layout(nodes, tensor, stages, 1)


def _per_gpu(model: Model, figures: Figures, layout: Layout, context: int) -> int:
    """Bytes on the fullest GPU with one request of `context` tokens."""
    weights = (figures.weights_bytes or 0) * WEIGHT_SHARE / (layout.tensor * layout.pipeline)
    cache = kv.bytes_for_context(figures, context) / (kv.shards(figures, layout.tensor) * layout.pipeline)
    return math.ceil(weights + cache) + _overhead(model, figures, layout)


def _overhead(model: Model, figures: Figures, layout: Layout) -> int:
    """What the engine needs on each GPU beside weights and cache.

    Activations: two tensors of hidden size and the gated feed-forward's two of inner size, for one step's tokens, in
    16 bit; logits of all sequences in 32 bit. Both are cut by tensor parallelism.
    """
    if model.builtin:
        return 0
    hidden = figures.hidden_size or 4096
    inner = figures.intermediate or 4 * hidden
    activations = STEP_TOKENS * (2 * hidden + 2 * inner // layout.tensor) * 2
    logits = SEQUENCES * (figures.vocabulary or DEFAULT_VOCABULARY) * 4 // layout.tensor
    return ENGINE_BYTES + activations + logits


def _room(model: Model, figures: Figures, layout: Layout, usable: int) -> int:
    """Bytes left for KV on one GPU."""
    return max(0, usable - _per_gpu(model, figures, layout, 0))


def longest_context(model: Model, figures: Figures, layout: Layout, usable: int) -> int:
    """Tokens of the longest single request, bounded by what the model was made for."""
    limit = figures.context_length or 2**20
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if _per_gpu(model, figures, layout, middle) <= usable:
            low = middle
        else:
            high = middle - 1
    return low


def _fits(model: Model, figures: Figures, instance: InstanceType, layout: Layout, context: int) -> Estimate:
    usable = usable_bytes(instance)
    cache = kv.bytes_for_context(figures, context)
    per_request = cache / (kv.shards(figures, layout.tensor) * layout.pipeline)
    at_once = int(_room(model, figures, layout, usable) / per_request) * layout.data if per_request else 0
    longest = longest_context(model, figures, layout, usable)
    why = (
        f"{model.name} has {in_words(figures.weights_bytes or 0)} of weights and {in_words(cache)} of KV cache at "
        f"{context} tokens; {layout.nodes} x {instance.name} with {instance.gpu_count} GPU(s) of {in_words(usable)} "
        f"usable hold it, up to {longest} tokens"
    )
    return Estimate(
        fits=True,
        nodes=layout.nodes,
        gpus_per_node=instance.gpu_count,
        tensor_parallel=layout.tensor,
        pipeline_parallel=layout.pipeline,
        data_parallel=layout.data,
        weights_bytes=figures.weights_bytes or 0,
        kv_cache_bytes=cache,
        overhead_bytes=_overhead(model, figures, layout),
        per_gpu_bytes=_per_gpu(model, figures, layout, context),
        why=why,
        usable_bytes=usable,
        longest_context=longest,
        requests_at_once=at_once,
    )


def _too_large(model: Model, figures: Figures, instance: InstanceType, context: int) -> Estimate:
    tensor = tensor_parallel(figures, max(1, instance.gpu_count))
    layout = Layout(1, tensor, 1, 1)
    overhead = _overhead(model, figures, layout)
    why = (
        f"no number of {instance.name} serves {model.name} at {context} tokens: of the "
        f"{in_words(usable_bytes(instance))} usable on a GPU the engine takes {in_words(overhead)}; a shorter context "
        "or larger GPUs are needed"
    )
    return Estimate(
        fits=False,
        nodes=1,
        gpus_per_node=instance.gpu_count,
        tensor_parallel=tensor,
        pipeline_parallel=1,
        data_parallel=1,
        weights_bytes=figures.weights_bytes or 0,
        kv_cache_bytes=kv.bytes_for_context(figures, context),
        overhead_bytes=overhead,
        per_gpu_bytes=_per_gpu(model, figures, layout, context),
        why=why,
        usable_bytes=usable_bytes(instance),
    )


def unknown(model: Model, instance: InstanceType) -> Estimate:
    """For a model whose figures are not known: one node, and the sentence says that it is assumed."""
    why = f"{model.name} is not in the catalogue, so its memory is not known; one node of {instance.name} is assumed"
    gpus = instance.gpu_count
    return Estimate(True, 1, gpus, gpus, 1, 1, 0, 0, 0, 0, why, usable_bytes(instance))
