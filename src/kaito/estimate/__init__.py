"""What a model needs on an instance type: memory, GPUs, nodes, parallelism. Pure.

This is the first, coarse form: weights and KV cache in bf16 with fixed overheads, spread evenly over GPUs. Units are
bytes unless a name says otherwise.
"""

from __future__ import annotations

import math

import msgspec

from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Figures, Model

GIB = 2**30
USABLE = 0.84
"""Share of a GPU's memory that an engine plans with (KAITO's figure)."""
OVERHEAD_BYTES = int(2.3 * GIB)
"""CUDA context, graphs and activations of one GPU (KAITO's figure)."""
DEFAULT_CONTEXT = 2048
ADAPTER_SHARE = 0.02
"""LoRA weights, gradients and Adam states against the base, at rank 16 on all linear layers."""


class Estimate(msgspec.Struct, frozen=True):
    """`fits` is False when no number of nodes helps; `why` is one sentence for people in either case."""

    fits: bool
    nodes: int
    gpus_per_node: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int
    per_gpu_bytes: int
    why: str


def kv_bytes_per_token(figures: Figures) -> int:
    """Bytes of KV cache for one token in 16 bit: 2 * layers * kv_heads * head_dim * 2, or MLA's compressed rank."""
    layers = figures.layers or 0
    if figures.kv_lora_rank:
        return (figures.kv_lora_rank + (figures.qk_rope_head_dim or 0)) * layers * 2
    heads = figures.heads or 1
    head_dim = figures.head_dim or (figures.hidden_size or 0) // heads
    return 2 * (figures.kv_heads or heads) * head_dim * layers * 2


def estimate_serving(model: Model, instance: InstanceType, *, context: int = DEFAULT_CONTEXT) -> Estimate:
    """The smallest number of nodes of `instance` that serves `model` with one request of `context` tokens."""
    figures = model.figures
    if figures is None or figures.weights_bytes is None:
        return _unknown(model, instance)
    kv = kv_bytes_per_token(figures) * context
    usable = int(instance.gpu_memory_mib * 2**20 * USABLE)
    return _spread(model, instance, figures.weights_bytes, kv, OVERHEAD_BYTES if not model.builtin else 0, usable)


def estimate_tuning(model: Model, instance: InstanceType, *, method: str) -> Estimate:
    """One node, one GPU: the frozen base in 4 bit (qlora) or 16 bit, the adapter with its optimizer, activations."""
    figures = model.figures
    if figures is None or figures.weights_bytes is None:
        return _unknown(model, instance)
    weights = int(figures.weights_bytes * (0.29 if method == "qlora" else 1.0))
    adapter = int(figures.weights_bytes * ADAPTER_SHARE * 4)
    usable = int(instance.gpu_memory_mib * 2**20 * 0.92)
    one = msgspec.structs.replace(instance, gpu_count=1)
    overhead = adapter + (OVERHEAD_BYTES if not model.builtin else 0)
    estimate = _spread(model, one, weights, 0, overhead, usable)
    if estimate.nodes > 1:
        why = (
            f"tuning {model.name} with {method} needs {_gib(weights + overhead)} on one GPU; "
            f"{instance.name} has {_gib(usable)} usable"
        )
        return msgspec.structs.replace(estimate, fits=False, nodes=1, why=why)
    return msgspec.structs.replace(estimate, gpus_per_node=instance.gpu_count)


def _spread(model: Model, instance: InstanceType, weights: int, kv: int, overhead: int, usable: int) -> Estimate:
    room = usable - overhead
    needed = weights + kv
    if room <= 0 or instance.gpu_count < 1:
        return _no_room(model, instance, weights, kv, overhead)
    gpus = math.ceil(needed / room)
    nodes = math.ceil(gpus / instance.gpu_count)
    per_gpu = overhead + math.ceil(needed / (nodes * instance.gpu_count))
    why = (
        f"{model.name} needs {_gib(weights)} for weights and {_gib(kv)} for the KV cache; {nodes} x {instance.name} "
        f"with {instance.gpu_count} GPU(s) of {_gib(usable)} usable each"
    )
    return Estimate(
        fits=True,
        nodes=nodes,
        gpus_per_node=instance.gpu_count,
        tensor_parallel=instance.gpu_count,
        pipeline_parallel=nodes,
        data_parallel=1,
        weights_bytes=weights,
        kv_cache_bytes=kv,
        overhead_bytes=overhead,
        per_gpu_bytes=per_gpu if nodes == 1 else overhead + math.ceil(needed / gpus),
        why=why,
    )


def _no_room(model: Model, instance: InstanceType, weights: int, kv: int, overhead: int) -> Estimate:
    why = f"a GPU of {instance.name} has no room beside the {_gib(overhead)} that an engine needs for itself"
    return Estimate(False, 1, instance.gpu_count, 1, 1, 1, weights, kv, overhead, overhead, why)


def _unknown(model: Model, instance: InstanceType) -> Estimate:
    why = f"{model.name} is not in the catalogue, so its memory is not known; one node of {instance.name} is assumed"
    return Estimate(True, 1, instance.gpu_count, instance.gpu_count, 1, 1, 0, 0, 0, 0, why)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB // 10 else f"{size / 2**20:.0f} MiB"
