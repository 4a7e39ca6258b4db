"""What a GPU can do: its rate of computing, and which engines and number formats it can run. Data: `data/gpus.csv`."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from kaito.catalog.instances import InstanceType

BF16, FP8, NF4, INT8, VLLM = 8.0, 8.9, 6.0, 7.5, 7.0
"""Compute capabilities from which on: bfloat16 (CUDA programming guide), fp8 (Ada and Hopper), bitsandbytes' NF4 and
its 8-bit matrices (its installation guide), vLLM (its requirements)."""


def tflops_16bit(gpu_model: str) -> float | None:
    """The data sheet's dense 16-bit rate in TFLOP/s, the first row's where a model comes in sizes; None: not known."""
    return _rates().get(gpu_model)


def what_it_runs(instance: InstanceType) -> list[str]:
    """For people: the engines and formats of this type's GPUs, as far as its compute capability is known."""
    capability = instance.compute_capability
    if instance.resource != "nvidia.com/gpu" or capability is None:
        return []
    levels = [(VLLM, "vllm"), (NF4, "qlora (NF4)"), (INT8, "8-bit base"), (BF16, "bfloat16"), (FP8, "fp8")]
    return ["transformers", *(name for level, name in levels if capability >= level)]


@cache
def _rates() -> dict[str, float]:
    text = resources.files("kaito.catalog").joinpath("data/gpus.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return {row["gpu_model"]: float(row["tflops_16bit"]) for row in rows if row["tflops_16bit"]}
