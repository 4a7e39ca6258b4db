"""What the node agent is told at its start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kaito.local.agent.engines import Engines

RUNTIME_REPOSITORY = "kaito/runtime"
HOST_PROGRAMS = {"curlimages/curl": "curl", "curl/curl": "curl"}
"""Image repository -> program of this machine that is its entry point."""
INHERITED = (
    *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("OMP_", "MKL_", "OPENBLAS_", "KMP_", "TORCH_", "PYTORCH_", "CUDA_", "NVIDIA_", "NCCL_", "HF_HUB_OFFLINE"),
)
"""Variables that a container inherits from this machine: these, and those that begin with a name that ends in `_`."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class AgentConfig:
    home: Path
    """$KAITO_HOME: pods live in `pods/`, claimed volumes in `volumes/`."""
    node_name: str = ""
    """The default Node of this machine; empty takes the host's name."""
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Image repository -> argv prefix that stands for its entry point; goes before all defaults."""
    runtime_image: str = ""
    """A further image that is the Kaito runtime, beside every repository that ends in `kaito/runtime`."""
    host_programs: Mapping[str, str] = field(default_factory=lambda: dict(HOST_PROGRAMS))
    engines: Engines = field(default_factory=Engines)
    """What runs the images that are no programs of this machine."""
    pod_network: str = "127.97.0.0/16"
    first_backoff: float = 1.0
    """Seconds between the second and the third start of a container that crashes; doubles up to `last_backoff`."""
    last_backoff: float = 300.0
    cgroups: Path = Path("/sys/fs/cgroup")
    log_bytes: int = 10 << 20
    lease_seconds: float = 10.0
    python: str = sys.executable
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    clock: Callable[[], datetime] = utc_now

    @property
    def pods(self) -> Path:
        return self.home / "pods"

    @property
    def inherited(self) -> dict[str, str]:
        """The part of this machine's environment that containers see: no proxies, no credentials."""
        exact = {name for name in INHERITED if not name.endswith("_")}
        prefixes = tuple(name for name in INHERITED if name.endswith("_"))
        return {k: v for k, v in self.environ.items() if k in exact or k.startswith(prefixes)}
