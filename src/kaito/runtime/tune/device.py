"""What this machine trains on, and in which precision."""

from __future__ import annotations

import platform
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kaito.runtime.limits import usable_cores

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86's two ways, and Arm's
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

    bf16 on GPUs that have it, fp16 on those that do not (V100, T4), fp32 on CPUs. A CPU takes bf16 where the config
    says so and the processor computes with it; elsewhere half precision is slower and loses small updates.
    """
    wanted = DTYPES.get(SHORT.get(requested, requested).removeprefix("torch."))
    if not torch.cuda.is_available():
        name = platform.processor() or platform.machine()
        if wanted is torch.bfloat16 and _cpu_flags() & BF16_FLAGS:
            return Device("cpu", torch.bfloat16, name), ""
        warning = f"torch_dtype {requested} is not used on this CPU; training in float32" if _is_half(wanted) else ""
        return Device("cpu", torch.float32, name), warning
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
    if device.is_cuda:
        return
    given = environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if given.isdecimal() and int(given):
        torch.set_num_threads(int(given))
        return
    torch.set_num_threads(1 if parameters < SMALL_MODEL else usable_cores())


def cpu_maker() -> str:
    """Such as GenuineIntel or AuthenticAMD; empty where Linux does not tell it."""
    return _cpu_info("vendor_id")


def _cpu_flags() -> set[str]:
    """What the processor can do; empty where that is not told."""
    return set(_cpu_info("flags|Features").split())


@cache
def _cpu_info(names: str) -> str:
    """A line of what Linux lists of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^(?:{names})\s*:(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _is_half(dtype: torch.dtype | None) -> bool:
    return dtype in (torch.float16, torch.bfloat16)
