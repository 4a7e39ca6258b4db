"""What `kaito up` is told, what it says of itself once it runs, and where both are on disk."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaito

DYING_SECONDS = 5.0
DATA_NETWORK = "127.0.0.0/8"
"""Where the data sets of this machine are: the operator lets data URLs point there."""


@dataclass(frozen=True)
class UpConfig:
    home: Path
    port: int = 6443
    """Of the API, on loopback; 0 takes a free one."""
    registry_port: int = 5010
    """Of the registry and /data/; 0 takes a free one."""
    controllers: bool = True
    """Run `kaito operator` and `kaito provisioner` too."""
    stop_seconds: float = 10.0
    """How long pods may take to stop when the control plane does, however long their own grace is."""
    start_seconds: float = 60.0
    """How long `detach` waits for a control plane to be ready."""
    progress_interval: float = 1.0
    """Seconds between two reads of a step's progress: on one machine it costs nothing to look often."""

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


@dataclass(frozen=True)
class Running:
    """A control plane that is ready."""

    url: str
    kubeconfig: Path
    registry_port: int
    pid: int
    started: str = ""
    """RFC 3339, UTC."""

    @property
    def registry(self) -> str:
        return f"127.0.0.1:{self.registry_port}"


def write_running(home: Path, running: Running) -> None:
    """`up.json`, whole or not at all."""
    content = {
        "pid": running.pid,
        "url": running.url,
        "port": int(running.url.rpartition(":")[2]),
        "registry_port": running.registry_port,
        "kubeconfig": str(running.kubeconfig),
        "version": kaito.__version__,
        "started": running.started,
    }
    beside = home / ".up.json.part"
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(home / "up.json")


def read_running(home: Path) -> Running | None:
    """What `up.json` says; it may be left over from a control plane that was killed."""
    try:
        content: dict[str, Any] = json.loads((home / "up.json").read_bytes())
        return Running(
            url=str(content["url"]),
            kubeconfig=Path(content["kubeconfig"]),
            registry_port=int(content["registry_port"]),
            pid=int(content["pid"]),
            started=str(content.get("started", "")),
        )
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def lock_holder(home: Path) -> int | None:
    """The pid of the control plane that holds the folder's lock now, or None. The kernel drops a dead one's lock."""
    try:
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(descriptor)


def settled_holder(home: Path) -> int | None:
    """`lock_holder`, once a killed holder is all gone: its lock goes with the last of its threads, not the first."""
    deadline = time.monotonic() + DYING_SECONDS
    while True:
        holder = lock_holder(home)
        if not holder or is_alive(holder) or time.monotonic() > deadline:
            return holder
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def status(home: Path) -> Running | None:
    """The control plane that runs on `home` and is ready, or None."""
    running, holder = read_running(home), lock_holder(home)
    return running if running is not None and running.pid == holder else None


def describe(running: Running) -> str:
    """For people: where it is and what to type next."""
    return (
        f"The control plane is ready: {running.url} (pid {running.pid})\n"
        f"  registry  {running.registry} (the Secret local-registry in the namespace default has its login)\n"
        f"  data      http://{running.registry}/data/ serves {running.kubeconfig.parent / 'data'}\n"
        f"  kubectl   export KUBECONFIG={running.kubeconfig}"
    )
