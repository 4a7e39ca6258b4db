"""Ending pods from their folders alone, when no agent runs: after a killed control plane, or for a pod that is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from kaito.local.agent.run import close_unless_alive, read_json, signal_container

LOOK_SECONDS = 0.02
KILL_SECONDS = 5.0


def run_folders(pod: Path) -> Iterator[Path]:
    """The folders of all runs of a pod: containers' and commands'."""
    for pattern in ("containers/*/*", "commands/*"):
        for folder in pod.glob(pattern):
            if (folder / "run.json").exists():
                yield folder


def stop_pod_folder(pod: Path, grace: float, *, remove: bool = False) -> int:
    """Stop what still runs of the pod in `pod`. Returns how many processes that were. Blocks for `grace` at most,
    and for what the kernel takes to end killed processes."""
    return stop_runs(list(run_folders(pod)), grace) if not remove else _stop_and_remove(pod, grace)


def stop_all(pods: Path, grace: float) -> int:
    """Stop the processes of all pods below `pods`; the pods themselves are kept, to be taken up again."""
    folders = [folder for pod in pods.glob("*") for folder in run_folders(pod)] if pods.is_dir() else []
    return stop_runs(folders, grace)


def stop_runs(folders: list[Path], grace: float) -> int:
    alive = [folder for folder in folders if not close_unless_alive(folder)]
    for folder in alive:
        (folder / "stopped").touch()
        signal_container(read_json(folder / "started.json") or {}, signal.SIGTERM, group=False)
    left = _wait(alive, grace)
    for folder in left:
        signal_container(read_json(folder / "started.json") or {}, signal.SIGKILL, group=True)
    for folder in _wait(left, KILL_SECONDS):
        # Its process does not end: without its shim it dies with the shim, by the kernel's hand.
        started = read_json(folder / "started.json") or {}
        if started.get("shim_pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(started["shim_pid"]), signal.SIGKILL)
    return len(alive)


def _wait(folders: list[Path], seconds: float) -> list[Path]:
    """Those that still live after `seconds`. These may be no children of ours, so we look again and again."""
    deadline = time.monotonic() + seconds
    left = [folder for folder in folders if folder.exists() and not close_unless_alive(folder)]
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        left = [folder for folder in left if folder.exists() and not close_unless_alive(folder)]
    return left


def _stop_and_remove(pod: Path, grace: float) -> int:
    stopped = stop_runs(list(run_folders(pod)), grace)
    shutil.rmtree(pod, ignore_errors=True)
    return stopped
