"""What a GPU can do: its rate of computing, and which engines and number formats it can run. Data: `data/gpus.csv`."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

import msgspec

from kaito.catalog.instances import InstanceType

BF16, FP8, NF4, INT8, VLLM = 8.0, 8.9, 6.0, 7.5, 7.5
"""Compute capabilities from which on: bfloat16 (CUDA programming guide), fp8 (Ada and Hopper), bitsandbytes' NF4 and
its 8-bit matrices (its installation guide), vLLM (its installation guide, "compute capability 7.5 or higher")."""

MXFP4 = 8.0
"""vLLM's table of quantization by hardware: all of its weight formats run from 7.5 on, MXFP4 from Ampere on."""


class Gpu(msgspec.Struct, frozen=True):
    """A GPU model in one of its sizes. Unknown figures are None."""

    model: str
    memory_gib: int
    """The number on the box."""
    total_mib: int
    """What a program sees of it."""
    compute_capability: float | None = None
    tflops_16bit: float | None = None
    """Dense 16-bit rate with tensor cores, TFLOP/s."""
    bandwidth_gb_s: int | None = None
    """Of its memory, GB/s."""


def find_gpu(gpu_model: str, total_mib: int = 0) -> Gpu | None:
    """The GPU of that model whose size is nearest to `total_mib`; the first size where none is given."""
    sizes = [gpu for gpu in _gpus() if gpu.model == gpu_model]
    if not total_mib:
        return next(iter(sizes), None)
    return min(sizes, key=lambda gpu: abs(gpu.total_mib - total_mib), default=None)


def gpu_of_product(product: str, total_mib: int = 0) -> Gpu | None:
    """The GPU that a driver calls `product`, such as `NVIDIA-A100-SXM4-80GB`; the longest model name in it counts."""
    words = product.replace("-", " ").lower()
    names = sorted({gpu.model for gpu in _gpus()}, key=len, reverse=True)
    plain = {name: name.lower().removeprefix("nvidia ") for name in names}
    found = next((name for name in names if f" {plain[name]} " in f" {words} "), None)
    return find_gpu(found, total_mib) if found else None


def tflops_16bit(gpu_model: str) -> float | None:
    """The data sheet's dense 16-bit rate in TFLOP/s, the first row's where a model comes in sizes; None: not known."""
    gpu = find_gpu(gpu_model)
    return gpu.tflops_16bit if gpu else None


def is_nvidia(instance: InstanceType) -> bool:
    """Whether its devices are NVIDIA's, whole or in parts: what the runtime image computes with."""
    return instance.resource.startswith("nvidia.com/")


def what_it_runs(instance: InstanceType) -> list[str]:
    """For people: the engines and formats of this type's GPUs, as far as its compute capability is known."""
    capability = instance.compute_capability
    if not is_nvidia(instance) or capability is None:
        return []
    levels = [(VLLM, "vllm"), (NF4, "qlora (NF4)"), (INT8, "8-bit base"), (BF16, "bfloat16"), (FP8, "fp8")]
    return ["transformers", *(name for level, name in levels if capability >= level)]


@cache
def _gpus() -> tuple[Gpu, ...]:
    text = resources.files("kaito.catalog").joinpath("data/gpus.csv").read_text()
    return tuple(
        Gpu(
            model=row["gpu_model"],
            memory_gib=int(row["memory_gib"]),
            total_mib=int(row["total_mib"]),
            compute_capability=float(row["compute_capability"]) if row["compute_capability"] else None,
            tflops_16bit=float(row["tflops_16bit"]) if row["tflops_16bit"] else None,
            bandwidth_gb_s=int(row["bandwidth_gb_s"]) if row["bandwidth_gb_s"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    )
