"""What GPUs cannot do at all, and what a practitioner would say of those that can."""

from __future__ import annotations

from collections.abc import Iterator

from kaito.catalog.gpus import BF16, FP8, INT8, MXFP4, NF4, VLLM, is_nvidia
from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Model

BUILT_IN, VLLM_ENGINE = "transformers", "vllm"
NATIVE_FP8 = ("fp8", "float-quantized", "fbgemm_fp8")


def engine_of(instance: InstanceType, runtime: str = "") -> str:
    """The engine that serves: the one asked for, or the built-in one on GPUs that vLLM does not support."""
    capability = instance.compute_capability
    is_old = is_nvidia(instance) and capability is not None and capability < VLLM
    return runtime or (BUILT_IN if is_old else VLLM_ENGINE)


def cannot_serve(model: Model, instance: InstanceType, engine: str) -> str:
    """Why these GPUs cannot compute with the model's weights; empty where they can or nothing is known.

    vLLM's table of quantization methods by hardware: MXFP4 from Ampere on, its other weight formats wherever it runs.
    The built-in engine is transformers without the formats' own libraries; it unpacks MXFP4 alone, to 16 bit.
    """
    method, capability = model.quantization, instance.compute_capability
    if not method or capability is None or not is_nvidia(instance):
        return ""
    if engine == BUILT_IN:
        return f"{method} weights need vllm, which runs from compute capability {VLLM} on; this has {capability}"
    if method == "mxfp4" and capability < MXFP4:
        return f"mxfp4 weights need compute capability {MXFP4}, this has {capability}"
    return ""


def serving_notes(model: Model, instance: InstanceType, engine: str, cache_bytes: int) -> Iterator[str]:
    capability = instance.compute_capability
    if not is_nvidia(instance):
        yield _other_vendor(instance)
    elif capability is None:
        return
    elif engine == BUILT_IN:
        why = f"vllm needs compute capability {VLLM}, this has {capability}" if capability < VLLM else "as asked for"
        yield f"{why}: the built-in engine serves, on one GPU"
    elif capability < BF16:
        yield "the GPUs have no bfloat16: models run in float16"
    if capability is None or capability >= FP8:
        return
    if cache_bytes == 1:
        yield f"an fp8 KV cache is computed natively from compute capability {FP8} on, this has {capability}"
    if model.quantization in NATIVE_FP8 and engine == VLLM_ENGINE:
        yield f"fp8 weights are computed natively from compute capability {FP8} on; here they are unpacked to 16 bit"


def cannot_tune(model: Model, instance: InstanceType, bits: int) -> str:
    """Why the GPUs cannot train on such a base at all; empty where they can or nothing is known."""
    if bits < 16 and model.quantization:
        return f"cannot quantize {model.name} a second time (its weights are {model.quantization}): take method lora"
    needed = {4: NF4, 8: INT8}.get(bits)
    has = instance.compute_capability
    if needed is None or has is None or has >= needed:
        return ""
    return f"has compute capability {has}, and a {bits}-bit base needs {needed}: take lora or newer GPUs"


def tuning_notes(model: Model, instance: InstanceType, bits: int) -> Iterator[str]:
    figures, capability = model.figures, instance.compute_capability
    if not is_nvidia(instance):
        yield _other_vendor(instance)
    if capability is not None and capability < BF16:
        yield "the GPUs have no bfloat16: training runs in float16"
    if model.quantization == "mxfp4":
        yield "mxfp4 weights cannot be trained through: they are unpacked to 16 bit when they are loaded"
    elif model.quantization:
        yield f"training through {model.quantization} weights needs that format's own library in the runtime image"
    if bits < 16 and figures is not None and figures.mixture:
        yield "only linear layers are quantized: the experts stay in 16 bit"


def _other_vendor(instance: InstanceType) -> str:
    stack = {"amd.com/gpu": "ROCm", "aws.amazon.com/neuron": "Neuron"}.get(instance.resource, instance.resource)
    return f"{instance.gpu_model} is not NVIDIA's, and the runtime image computes with CUDA: build one for {stack}"
