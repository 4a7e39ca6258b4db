"""One life of one container: the folder that the shim works in, seen from the agent's side.

Everything that must outlive the agent is in the folder; `Run` is a view of it. The shim holds a lock on `lock` while it
lives, which the kernel drops however it dies, so "does it still run?" has an answer that pids alone cannot give.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIM = Path(__file__).with_name("shim.py")
START_LOOK_SECONDS = 0.01
LOST_CODE = 137
"""Exit code of a process whose end nobody saw, as the kubelet reports it."""


@dataclass(frozen=True)
class Exit:
    """How a run ended. Times are RFC 3339 in UTC."""

    code: int
    signal: int = 0
    reason: str = "Error"
    message: str = ""
    started_at: str = ""
    finished_at: str = ""

    @property
    def succeeded(self) -> bool:
        return self.code == 0 and self.reason == "Completed"


class Run:
    """Run number `number` of a container, in `folder`. `on_exit` is called in the event loop when it ends."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.started: dict[str, Any] = {}
        self._ended = asyncio.Event()
        self._child = 0
        self._pidfd: int | None = None

    def start(self, spec: dict[str, Any], python: str, on_exit: Callable[[], None]) -> None:
        """Start the shim, which starts the container. `spec` is what the shim's docstring says. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "run.json", spec)
        (self.folder / "termination").touch()
        argv = [python, "-I", "-S", str(SHIM), str(self.folder)]
        output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.folder / "shim.log"), output, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        self._child = os.posix_spawn(python, argv, {"LC_ALL": "C.UTF-8"}, file_actions=actions, setsid=True)
        self._watch(self._child, on_exit)

    def adopt(self, on_exit: Callable[[], None]) -> None:
        """Take over a run that an earlier agent began: follow it if it lives, else note that it ended."""
        if self._close_unless_alive():
            self._ended.set()
            return
        pid = int(self._read_started().get("shim_pid", 0))
        if pid == 0 or not self._watch(pid, on_exit):
            # The shim lives but has not said who it is yet, or has just ended: look again in a moment.
            asyncio.get_running_loop().call_later(0.05, self.adopt, on_exit)

    def _watch(self, pid: int, on_exit: Callable[[], None]) -> bool:
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        asyncio.get_running_loop().add_reader(self._pidfd, self._shim_ended, on_exit)
        return True

    def _shim_ended(self, on_exit: Callable[[], None]) -> None:
        self.release()
        if self._child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, os.WNOHANG)
        if self.read_exit() is None:
            self.signal(signal.SIGKILL)  # the shim was killed alone; its container must not run unseen
        self._ended.set()
        on_exit()

    def release(self) -> None:
        """Stop following the run; it goes on."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def conclude(self) -> None:
        """Treat the run as ended: a newer one has begun."""
        self._ended.set()

    @property
    def is_running(self) -> bool:
        return not self._ended.is_set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end. False when it did not come within `seconds`."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def signal(self, number: int, *, group: bool = True) -> bool:
        """Send a signal to the container's process, or its whole group. False when there is no such process."""
        return signal_container(self._read_started(), number, group=group)

    async def deliver(self, number: int, *, group: bool) -> None:
        """`signal`, as soon as there is a process to signal; returns too when the run has ended."""
        while not self.signal(number, group=group) and not await self.wait(START_LOOK_SECONDS):
            pass

    def exit(self) -> Exit | None:
        """How it ended; None while it runs. A run whose shim was killed ended as LOST_CODE."""
        if self.is_running:
            return None
        result = self.read_exit()
        if result is None:
            message = "the process ended, and nobody saw how"
            return Exit(LOST_CODE, 9, "Error", message, str(self._read_started().get("started_at", "")), "")
        if result["error"]:
            reason, message = "StartError", str(result["error"])
        else:
            reason = "OOMKilled" if result["out_of_memory"] else "Completed" if result["code"] == 0 else "Error"
            message = ""
        return Exit(result["code"], result["signal"], reason, message, result["started_at"], result["finished_at"])

    @property
    def spec(self) -> dict[str, Any]:
        return read_json(self.folder / "run.json") or {}

    @property
    def was_stopped(self) -> bool:
        """Whether the machine's control plane stopped it, rather than the pod's own life."""
        return (self.folder / "stopped").exists()

    def mark_stopped(self) -> None:
        (self.folder / "stopped").touch()

    def read_exit(self) -> dict[str, Any] | None:
        return read_json(self.folder / "exit.json")

    def _read_started(self) -> dict[str, Any]:
        if not self.started:
            self.started = read_json(self.folder / "started.json") or {}
        return self.started

    def _close_unless_alive(self) -> bool:
        return close_unless_alive(self.folder)


def close_unless_alive(folder: Path) -> bool:
    """True when no shim lives in `folder`; a shim that was spawned and has not begun yet will then not begin."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / "closed").touch()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def signal_container(started: dict[str, Any], number: int, *, group: bool) -> bool:
    """Signal the process that `started.json` names, or its group, if it still is that process.

    A group outlives its leader, and as long as it does no other process gets the leader's pid.
    """
    pid = int(started.get("pid", 0))
    ticks = read_start_ticks(pid) if pid else None
    if pid == 0 or (ticks != started.get("ticks") and not (group and ticks is None)):
        return False
    try:
        (os.killpg if group else os.kill)(pid, number)
    except ProcessLookupError:
        return False
    return True


def read_start_ticks(pid: int) -> int | None:
    """When the process started, in ticks since boot; None when there is none. Field 22 of proc_pid_stat(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """All of it or nothing, readable by its owner alone: environments hold secrets."""
    beside = path.with_name(path.name + ".part")
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.replace(path)
