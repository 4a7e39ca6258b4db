"""What this machine really is: the facts behind every virtual node."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
NVIDIA = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Machine:
    hostname: str
    cpus: int
    memory_bytes: int
    architecture: str
    """As Kubernetes words it: amd64, arm64."""
    os: str
    gpus: tuple[str, ...] = ()
    """Model names of the GPUs that are really here."""

    @property
    def in_words(self) -> str:
        cores = f"{self.cpus} CPU core{'s' if self.cpus != 1 else ''}"
        memory = f"{self.memory_bytes // 2**30} GiB memory"
        return f"this machine: {cores}, {memory}, {_gpus_in_words(self.gpus)}"


def read_machine(nvidia: Path = NVIDIA) -> Machine:
    """Look at the machine that this process runs on. Cores are those that the process may use."""
    return Machine(
        hostname=socket.gethostname(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        architecture=_ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower()),
        os=platform.system().lower(),
        gpus=_read_gpus(nvidia),
    )


def _read_gpus(folder: Path) -> tuple[str, ...]:
    """One model name for each GPU that NVIDIA's driver shows."""
    try:
        files = sorted(folder.glob("*/information"))
        texts = [file.read_text() for file in files]
    except OSError:
        return ()
    return tuple(_model(text) for text in texts)


def _model(information: str) -> str:
    for line in information.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "Model":
            return value.strip()
    return "NVIDIA GPU"


def _gpus_in_words(gpus: tuple[str, ...]) -> str:
    if not gpus:
        return "no GPU"
    models = sorted(set(gpus))
    return ", ".join(f"{gpus.count(model)} x {model}" for model in models)
