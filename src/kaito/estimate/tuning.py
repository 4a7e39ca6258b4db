"""LoRA and QLoRA on each GPU of a node: what base, adapter, optimizer and activations take, and how fast it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from msgspec.structs import replace as replace_fields

from kaito.catalog.gpus import tflops_16bit
from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Figures, Model
from kaito.estimate import activations
from kaito.estimate.hardware import cannot_tune, tuning_notes
from kaito.estimate.lora import lora_parameters
from kaito.estimate.result import GIB, Estimate, in_words
from kaito.estimate.serving import unknown

FRAMEWORK_BYTES = int(0.9 * GIB)
"""CUDA context, kernels and the allocator's slack of a training process."""
USABLE_SHARE = 0.92
NF4_BYTES = 0.5 + 0.127 / 8
"""Per weight: 4 bits and the double-quantized constants (QLoRA, arXiv 2305.14314, section 3: 0.127 bits)."""
MXFP4_BITS = 4.25
"""Per weight: 4 bits and one 8-bit scale for each 32 (OCP Microscaling Formats, section 5.2)."""
ADAPTER_BYTES = 16
"""Per LoRA parameter in 32 bit: itself, its gradient, Adam's two states."""
EFFICIENCY = 0.35
"""Of the data sheet's rate that training reaches: a choice, at the lower end of what is published for dense models."""
DEFAULT_RANK = 16
DEFAULT_LENGTH = 2048


@dataclass(frozen=True)
class TuningSettings:
    """What a training_config says of memory. `base_bits` 16: as the weights are; 8: 8-bit matrices; 4: NF4.

    `targets` are the layers with adapters; none named: every linear layer.
    """

    rank: int = DEFAULT_RANK
    batch: int = 1
    length: int = DEFAULT_LENGTH
    checkpointing: bool = True
    base_bits: int = 16
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class TuningMemory:
    """Bytes on each GPU."""

    base: int
    adapter: int
    activations: int
    logits: int
    framework: int

    @property
    def total(self) -> int:
        return self.base + self.adapter + self.framework + max(self.activations, self.logits)


def tuning_memory(
    figures: Figures,
    *,
    method: str,
    rank: int = DEFAULT_RANK,
    batch: int = 1,
    length: int = DEFAULT_LENGTH,
    checkpointing: bool = True,
) -> TuningMemory:
    """Peak memory of a step over `batch` sequences of `length` tokens; see `step_memory`."""
    bits = 4 if method == "qlora" else 16
    return step_memory(figures, TuningSettings(rank, batch, length, checkpointing, bits))


def step_memory(
    figures: Figures, settings: TuningSettings, *, number_bytes: int = 2, framework: int = FRAMEWORK_BYTES
) -> TuningMemory:
    """Peak memory of one step: `number_bytes` is 2 on a GPU; 4, with a measured `framework`, on a CPU."""
    tokens = settings.batch * settings.length
    kept, layer = _kept(figures, settings, tokens, number_bytes)
    quantized = settings.base_bits < 16
    loss = activations.loss_bytes(figures, tokens, number_bytes=number_bytes, quantized=quantized)
    return TuningMemory(
        base=base_bytes(figures, settings.base_bits),
        adapter=lora_parameters(figures, settings.rank, settings.targets) * ADAPTER_BYTES,
        activations=kept + layer,
        logits=kept + loss,
        framework=framework,
    )


def _kept(figures: Figures, settings: TuningSettings, tokens: int, number_bytes: int) -> tuple[int, int]:
    """What the forward leaves for the backward, and what the backward of one layer adds.

    The largest moment is either the loss, when all is kept and a tile of logits exists, or the backward of a layer.
    With checkpointing one tensor of hidden size per layer is kept, and one layer at a time is computed again.
    """
    layers, quantized = figures.layers or 0, settings.base_bits < 16
    stream_bytes = 4 if quantized else number_bytes
    one = activations.kept_bytes(figures, tokens, rank=settings.rank, number_bytes=number_bytes, quantized=quantized)
    mask, own_mask = _masks(settings, tokens, number_bytes)
    one += own_mask
    back = activations.backward_bytes(figures, tokens, number_bytes=stream_bytes) + _dequantized(figures, settings)
    if settings.checkpointing:
        return mask + layers * tokens * activations.hidden_size(figures) * stream_bytes, one + back
    return mask + layers * one, back


def _masks(settings: TuningSettings, tokens: int, number_bytes: int) -> tuple[int, int]:
    """The mask of all layers, and each layer's copy of it as numbers.

    A batch is one long row without padding, in which a mask keeps the sequences apart: a byte for each pair of tokens,
    which torch's attention turns into numbers. One sequence alone needs none.
    """
    if settings.batch == 1:
        return 0, 0
    return tokens * tokens, tokens * tokens * number_bytes


def _dequantized(figures: Figures, settings: TuningSettings) -> int:
    """The largest matrix in 16 bit: quantized ones are unpacked one at a time."""
    if settings.base_bits == 16:
        return 0
    return activations.hidden_size(figures) * activations.inner_size(figures) * 2


def base_bytes(figures: Figures, bits: int) -> int:
    """The frozen weights: as they are, or 4 or 8 bits for the linear layers of the body.

    Whatever else there is, the embeddings and the experts of a mixture, PEFT's `prepare_model_for_kbit_training` keeps
    in 32 bit.
    """
    weights = figures.weights_bytes or 0
    if bits == 16 or (figures.quantization_bits or 16) < 16:
        return weights
    parameters = weights // 2
    quantized = min(parameters, _linear_parameters(figures, parameters))
    return math.ceil(quantized * (NF4_BYTES if bits == 4 else 1)) + (parameters - quantized) * 4


def _linear_parameters(figures: Figures, parameters: int) -> int:
    """Of a dense model all but the embeddings; of a mixture the attention."""
    hidden = activations.hidden_size(figures)
    if figures.mixture:
        query, key_value = activations.query_size(figures), activations.key_value_size(figures)
        return (figures.layers or 0) * 2 * hidden * (query + key_value)
    tables = 1 if figures.tied else 2
    return max(0, parameters - tables * activations.vocabulary(figures) * hidden)


def unpacked(model: Model, figures: Figures) -> Figures:
    """The figures as training sees them: MXFP4 weights, which nothing trains through, are loaded in 16 bit.

    transformers' MXFP4 quantizer is not trainable and unpacks where its kernels are not installed, as in the image.
    """
    if model.quantization != "mxfp4" or figures.weights_bytes is None:
        return figures
    return replace_fields(figures, weights_bytes=int(figures.weights_bytes * 16 / MXFP4_BITS), quantization_bits=None)


def largest_batch(figures: Figures, usable: int, settings: TuningSettings, framework: int = FRAMEWORK_BYTES) -> int:
    """Sequences of `settings.length` tokens that fit at once; 0 when not even one does."""
    low, high = 0, 2**14
    while low < high:
        middle = (low + high + 1) // 2
        if step_memory(figures, replace(settings, batch=middle), framework=framework).total <= usable:
            low = middle
        else:
            high = middle - 1
    return low


def tokens_per_second(figures: Figures, instance: InstanceType, *, checkpointing: bool = True) -> float:
    """How fast one GPU trains; 0 where its rate or the model's size is not known.

    A token costs 2 FLOPs per active parameter forward and 2 backward, for the frozen weights need no gradient, and 2
    more when checkpointing computes the forward again (Kaplan et al., arXiv 2001.08361, section 2.1, less what LoRA
    spares).
    """
    rate = tflops_16bit(instance.gpu_model)
    bits = figures.quantization_bits or (8 if figures.mixture and not figures.active_parameters else 16)
    parameters = figures.active_parameters or (0 if figures.mixture else (figures.weights_bytes or 0) * 8 // bits)
    if not rate or not parameters:
        return 0.0
    return rate * 1e12 * EFFICIENCY / ((6 if checkpointing else 4) * parameters)


def estimate_tuning(
    model: Model,
    instance: InstanceType,
    *,
    method: str,
    rank: int = DEFAULT_RANK,
    length: int = DEFAULT_LENGTH,
    settings: TuningSettings | None = None,
) -> Estimate:
    """Whether `model` can be tuned on the GPUs of an `instance`, with the largest batch of `length` tokens on each.

    The `tune` step runs once on each GPU of the node (distributed data parallel), so memory is that of one.

    `settings` say more than the method: batch, checkpointing, 8 bits. Without them one sequence at a time has to fit.
    """
    if model.figures is None or model.figures.weights_bytes is None:
        return unknown(model, instance)
    figures = unpacked(model, model.figures)
    asked = settings or TuningSettings(rank=rank, length=length, base_bits=4 if method == "qlora" else 16)
    asked = replace(asked, length=min(asked.length, figures.context_length or asked.length))
    framework = 0 if model.builtin else FRAMEWORK_BYTES
    usable = int(instance.gpu_memory_mib * 2**20 * USABLE_SHARE)
    memory = step_memory(figures, asked, framework=framework)
    batch = largest_batch(figures, usable, asked, framework)
    return _estimate(model, figures, instance, method, asked, memory, usable, batch)


def _estimate(
    model: Model,
    figures: Figures,
    instance: InstanceType,
    method: str,
    asked: TuningSettings,
    memory: TuningMemory,
    usable: int,
    batch: int,
) -> Estimate:
    cannot = cannot_tune(model, instance, asked.base_bits)
    fits = memory.total <= usable and not cannot
    base = Estimate(
        fits=fits,
        nodes=1,
        gpus_per_node=instance.gpu_count,
        tensor_parallel=1,
        pipeline_parallel=1,
        data_parallel=instance.gpu_count,
        weights_bytes=memory.base,
        kv_cache_bytes=0,
        overhead_bytes=memory.total - memory.base,
        per_gpu_bytes=memory.total,
        why=f"{instance.name} {cannot}" if cannot else _why(model, instance, method, asked, memory, usable, batch),
    )
    return replace_fields(
        base,
        usable_bytes=usable,
        batch_size=max(1, batch) if fits else 0,
        tokens_per_second=instance.gpu_count * tokens_per_second(figures, instance, checkpointing=asked.checkpointing),
        parts={
            "base": memory.base,
            "adapter": memory.adapter,
            "activations": max(memory.activations, memory.logits),
            "framework": memory.framework,
        },
        notes=tuple(tuning_notes(model, instance, asked.base_bits)),
    )


def _why(
    model: Model,
    instance: InstanceType,
    method: str,
    asked: TuningSettings,
    memory: TuningMemory,
    usable: int,
    batch: int,
) -> str:
    at = f"a batch of {asked.batch} x {asked.length}" if asked.batch > 1 else f"{asked.length}"
    what = f"{method} of {model.name} at {at} tokens needs {in_words(memory.total)} on each GPU"
    has = f"{instance.name} has {in_words(usable)} usable"
    if memory.total <= usable:
        return f"{what}; {has}, room for a batch of {max(1, batch)}"
    return f"{what}, but {has}" + (f"; a batch of {batch} fits" if 0 < batch < asked.batch else "")
