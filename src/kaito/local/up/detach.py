"""Starting a control plane in the background, and stopping one from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from kaito.local.up.config import Running, UpConfig, is_alive, lock_holder, read_running, settled_holder
from kaito.local.up.errors import FolderTaken, UpError

LOOK_SECONDS = 0.05
STOP_SECONDS = 25.0
"""For a graceful stop: the pods' 10 s, the controllers' 5 s, and some room."""
KILL_SECONDS = 5.0
STRAY_GRACE = 5.0


def detach(config: UpConfig) -> Running:
    """Start `kaito up` in the background; returns when the API is ready and the controllers run. Raises UpError."""
    holder = settled_holder(config.home)
    if holder is not None:
        raise FolderTaken(
            f"a control plane runs on {config.home} already (pid {holder or 'unknown'}); "
            "use it, or stop it with `kaito down`"
        )
    config.logs.mkdir(parents=True, exist_ok=True)
    log = config.logs / "up.log"
    begins_at = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        child = subprocess.Popen(
            _command(config), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + config.start_seconds
    while time.monotonic() < deadline:
        running = read_running(config.home)
        if running is not None and running.pid == child.pid:
            child.returncode = 0  # it outlives us; Popen must not warn of that
            return running
        if child.poll() is not None:
            raise UpError(_why(log, begins_at, child.returncode))
        time.sleep(LOOK_SECONDS)
    child.terminate()
    child.wait()
    raise UpError(f"the control plane was not ready within {config.start_seconds:g} s; see {log}")


def _command(config: UpConfig) -> list[str]:
    command = [sys.executable, "-m", "kaito.cli.main", "up", "--home", str(config.home)]
    command += ["--port", str(config.port), "--registry-port", str(config.registry_port)]
    return command if config.controllers else [*command, "--no-controllers"]


def _why(log: Path, begins_at: int, code: int) -> str:
    """The sentence that the background process ended with."""
    with log.open("rb") as file:
        file.seek(begins_at)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("kaito: ") for line in lines if line.startswith("kaito: ")]
    if said:
        return said[-1]
    return f"the control plane ended with exit code {code}: {lines[-1] if lines else 'it said nothing'} (see {log})"


def down(home: Path) -> bool:
    """Stop the control plane of `home` and every pod process, also those that a killed one left. Raises UpError.

    Returns whether anything ran.
    """
    from kaito.local.agent.sweep import stop_all

    holder = settled_holder(home)
    if holder == 0:
        raise UpError(f"a control plane holds {home / 'lock'}, and its pid is not known; end it by hand")
    if holder is not None:
        _stop(holder, home)
    strays = stop_all(home / "pods", STRAY_GRACE)
    with contextlib.suppress(FileNotFoundError):
        (home / "up.json").unlink()
    return holder is not None or strays > 0


def _stop(pid: int, home: Path) -> None:
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if lock_holder(home) != pid:
                _await_end(pid)
                return
            time.sleep(LOOK_SECONDS)
    raise UpError(f"the control plane of {home} (pid {pid}) does not end, not even by SIGKILL")


def _await_end(pid: int) -> None:
    """The lock is let go a moment before the process ends; so that nothing of it is left when we say so."""
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline and is_alive(pid):
        time.sleep(LOOK_SECONDS)
