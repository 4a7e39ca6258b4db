"""A real `kaito up` of its own folder, and the processes that work for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from kaito.local.up import Running, UpConfig, detach, down

PATIENCE = 20.0


class UpMachine:
    def __init__(self, home: Path, *, controllers: bool = False) -> None:
        self.home = home
        self.config = UpConfig(home=home, port=0, registry_port=0, controllers=controllers)
        self.running: Running | None = None

    def start(self) -> Running:
        self.running = detach(self.config)
        return self.running

    def kill(self) -> None:
        """kill -9, and wait until the kernel has let go of the lock."""
        assert self.running is not None
        os.kill(self.running.pid, signal.SIGKILL)
        until(lambda: not is_alive(self.running.pid if self.running else 0), "the control plane is dead")

    def stop(self) -> bool:
        return down(self.home)

    def processes(self) -> list[psutil.Process]:
        """Whatever has the folder in its command line or works in it."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                if process.pid != os.getpid() and (str(self.home) in words or str(self.home) in process.cwd()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience} s until {what}"
        time.sleep(0.02)


def foreground(config: UpConfig) -> subprocess.Popen[str]:
    """`kaito up` in the foreground, its output in a pipe."""
    command = [sys.executable, "-m", "kaito.cli.main", "up", "--home", str(config.home)]
    command += ["--port", str(config.port), "--registry-port", str(config.registry_port)]
    command += [] if config.controllers else ["--no-controllers"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
