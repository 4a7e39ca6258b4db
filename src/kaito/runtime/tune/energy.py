"""The energy that a training took, where the machine counts it: NVIDIA's GPUs, and processors with RAPL."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

RAPL = Path("/sys/class/powercap")
_SUCCESS = 0


class EnergyMeter:
    """Counts from its making. `joules` is None where nothing counts; `what` names what was counted."""

    def __init__(self, gpus: int, rapl: Path = RAPL) -> None:
        self._rapl = rapl
        self._gpus = gpus
        self._start = self._read()
        self.what = "" if self._start is None else "GPU" if gpus else "processor"

    def joules(self) -> float | None:
        now = self._read()
        if now is None or self._start is None or now < self._start:  # a counter that wrapped says nothing
            return None
        return round(now - self._start, 1)

    def _read(self) -> float | None:
        return _gpu_joules(self._gpus) if self._gpus else _processor_joules(self._rapl)


def _processor_joules(rapl: Path) -> float | None:
    """All packages together; most kernels let only root read it."""
    total, found = 0, False
    for package in sorted(rapl.glob("intel-rapl:[0-9]*")):
        if package.name.count(":") > 1:  # parts of a package
            continue
        try:
            total += int((package / "energy_uj").read_text())
        except (OSError, ValueError):
            return None
        found = True
    return total / 1e6 if found else None


def _gpu_joules(count: int) -> float | None:
    """By NVIDIA's management library, which counts since the driver was loaded (Volta and later)."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if library.nvmlInit_v2() != _SUCCESS:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    indexes = [int(one) for one in visible.split(",") if one.isdecimal()] or list(range(count))
    total = 0
    for index in indexes[:count]:
        device, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != _SUCCESS:
            return None
        if library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)) != _SUCCESS:
            return None
        total += millijoules.value
    return total / 1000
