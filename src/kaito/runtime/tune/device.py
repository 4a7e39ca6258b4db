"""What this machine trains on, and in which precision."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SMALL_MODEL = 30_000_000  # parameters
SHORT = {"fp32": "float32", "float": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Device:
    """`kind` is cuda or cpu; `dtype` is what the base weights are kept and computed in."""

    kind: str
    dtype: torch.dtype
    name: str

    @property
    def is_cuda(self) -> bool:
        return self.kind == "cuda"

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def peak_memory(self) -> int:
        """Bytes at the worst moment so far: the accelerator's, or the process's on a CPU."""
        if self.is_cuda:
            return int(torch.cuda.max_memory_allocated())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "count": torch.cuda.device_count() if self.is_cuda else 1,
            "threads": torch.get_num_threads(),
            "dtype": self.dtype_name,
        }


def find_device(requested: str = "auto") -> tuple[Device, str]:
    """The device and a warning, empty when the requested precision is used as it is.

    bf16 on GPUs that have it, fp16 on those that do not (V100, T4), fp32 on CPUs, where half precision is slower and
    loses small updates.
    """
    wanted = DTYPES.get(SHORT.get(requested, requested).removeprefix("torch."))
    if not torch.cuda.is_available():
        warning = f"torch_dtype {requested} is not used on a CPU; training in float32" if _is_half(wanted) else ""
        return Device("cpu", torch.float32, platform.processor() or platform.machine()), warning
    name = torch.cuda.get_device_name()
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted is torch.bfloat16 and not has_bf16:
        return Device("cuda", torch.float16, name), f"{name} has no bfloat16; training in float16 with loss scaling"
    best = torch.bfloat16 if has_bf16 else torch.float16
    return Device("cuda", wanted or best, name), ""


def use_threads(device: Device, parameters: int, environ: Mapping[str, str]) -> None:
    """How many threads torch computes with on a CPU: OMP_NUM_THREADS where set, one for a small model, else all cores.

    The matrices of a small model are too small to share: a second thread costs more than it brings.
    """
    if device.is_cuda or environ.get("OMP_NUM_THREADS"):
        return
    torch.set_num_threads(1 if parameters < SMALL_MODEL else max(1, len(os.sched_getaffinity(0))))


def _is_half(dtype: torch.dtype | None) -> bool:
    return dtype in (torch.float16, torch.bfloat16)
