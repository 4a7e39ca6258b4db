"""LoRA and QLoRA on one GPU: what the frozen base, the adapter, its optimizer and the activations take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Figures, Model
from kaito.estimate.result import GIB, Estimate, in_words
from kaito.estimate.serving import DEFAULT_VOCABULARY, unknown

FRAMEWORK_BYTES = int(0.9 * GIB)
"""CUDA context, kernels and the allocator's slack of a training process."""
USABLE_SHARE = 0.92
NF4_BYTES = 0.5 + 0.127 / 8
"""Per weight: 4 bits and the double-quantized constants (QLoRA, arXiv 2305.14314, section 3: 0.127 bits)."""
ADAPTER_BYTES = 16
"""Per LoRA parameter in 32 bit: itself, its gradient, Adam's two states."""
ACTIVATION_COPIES = 18
"""Tensors of hidden size that the backward of one layer keeps, in 16 bit (attention flash, gated feed-forward)."""
DEFAULT_RANK = 16
DEFAULT_LENGTH = 2048


@dataclass(frozen=True)
class TuningMemory:
    """Bytes on the one GPU."""

    base: int
    adapter: int
    activations: int
    logits: int
    framework: int

    @property
    def total(self) -> int:
        return self.base + self.adapter + self.activations + self.logits + self.framework


def tuning_memory(
    figures: Figures, *, method: str, rank: int = DEFAULT_RANK, batch: int = 1, length: int = DEFAULT_LENGTH
) -> TuningMemory:
    """Peak memory of a step over `batch` sequences of `length` tokens, with gradient checkpointing.

    Checkpointing keeps one tensor of hidden size per layer and recomputes one layer at a time. Logits exist in 16
    bit, in 32 bit for the loss, and as their gradient.
    """
    hidden, layers = figures.hidden_size or 0, figures.layers or 0
    vocabulary = figures.vocabulary or DEFAULT_VOCABULARY
    tokens = batch * length
    kept = layers * tokens * hidden * 2
    recomputed = tokens * (ACTIVATION_COPIES * hidden + 4 * (figures.intermediate or 4 * hidden)) * 2
    return TuningMemory(
        base=base_bytes(figures, method),
        adapter=lora_parameters(figures, rank) * ADAPTER_BYTES,
        activations=kept + recomputed,
        logits=tokens * vocabulary * (2 + 4 + 2),
        framework=FRAMEWORK_BYTES,
    )


def base_bytes(figures: Figures, method: str) -> int:
    """The frozen weights: as they are, or with NF4 for all but the embeddings, which stay in 16 bit."""
    weights = figures.weights_bytes or 0
    if method != "qlora" or (figures.quantization_bits or 16) < 16:
        return weights
    parameters = weights // 2
    embeddings = min(parameters, 2 * (figures.vocabulary or 0) * (figures.hidden_size or 0))
    return math.ceil((parameters - embeddings) * NF4_BYTES) + embeddings * 2


def lora_parameters(figures: Figures, rank: int) -> int:
    """Of adapters on every linear layer: rank * (in + out) for q, k, v, o, gate, up and down of each layer."""
    hidden = figures.hidden_size or 0
    heads = figures.heads or 1
    head_dim = figures.head_dim or hidden // heads
    query, key_value = heads * head_dim, (figures.kv_heads or heads) * head_dim
    inner = figures.intermediate or 4 * hidden
    attention = 2 * (hidden + query) + 2 * (hidden + key_value)
    return (figures.layers or 0) * rank * (attention + 3 * (hidden + inner))


def largest_batch(figures: Figures, usable: int, *, method: str, rank: int, length: int) -> int:
    """Sequences of `length` tokens that fit at once; 0 when not even one does."""
    one = tuning_memory(figures, method=method, rank=rank, batch=1, length=length)
    fixed = one.base + one.adapter + one.framework
    each = one.activations + one.logits
    return max(0, (usable - fixed) // each) if each else 0


def estimate_tuning(
    model: Model, instance: InstanceType, *, method: str, rank: int = DEFAULT_RANK, length: int = DEFAULT_LENGTH
) -> Estimate:
    """Whether `model` can be tuned on one GPU of `instance`, with the largest batch of `length` tokens."""
    figures = model.figures
    if figures is None or figures.weights_bytes is None:
        return unknown(model, instance)
    length = min(length, figures.context_length or length)
    usable = int(instance.gpu_memory_mib * 2**20 * USABLE_SHARE)
    memory = tuning_memory(figures, method=method, rank=rank, length=length)
    if model.builtin:
        memory = TuningMemory(memory.base, memory.adapter, memory.activations, memory.logits, 0)
    batch = largest_batch(figures, usable, method=method, rank=rank, length=length)
    what = f"{method} of {model.name} at {length} tokens needs {in_words(memory.total)} on one GPU"
    has = f"{instance.name} has {in_words(usable)} usable"
    fits = memory.total <= usable
    why = f"{what}; {has}, room for a batch of {max(1, batch)}" if fits else f"{what}, but {has}"
    base = Estimate(fits, 1, instance.gpu_count, 1, 1, 1, memory.base, 0, memory.total - memory.base, memory.total, why)
    return msgspec.structs.replace(base, usable_bytes=usable, batch_size=max(1, batch) if fits else 0)
