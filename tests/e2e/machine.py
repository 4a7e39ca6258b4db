"""One machine under test: a real `kaito up` of its own folder and ports, driven by the commands of a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.cluster import kubectl_path

ROOT = Path(__file__).parents[2]
KAITO = (sys.executable, "-m", "kaito.cli.main")


class Machine:
    """A control plane in `home`. `start` and `stop` as often as a test wants; state stays."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "KAITO_HOME": str(home), "KUBECONFIG": str(home / "kubeconfig")}

    def start(self) -> None:
        self.kaito("up", "--detach", "--port", "0", "--registry-port", "0", timeout=60)

    def stop(self) -> None:
        self.kaito("down", timeout=60)

    @property
    def running(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.home / "up.json").read_text())
        return loaded

    @property
    def registry(self) -> str:
        return f"127.0.0.1:{self.running['registry_port']}"

    def kaito(self, *arguments: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run([*KAITO, *arguments], timeout, check)

    def kubectl(self, *arguments: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run([kubectl_path(), *arguments], timeout, check)

    def _run(self, command: list[str], timeout: float, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, env=self.environment, timeout=timeout, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def workspace(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.kaito("get", "workspace", name, "-o", "json").stdout)
        return loaded

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        found = self.workspace(name).get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == type_), {})

    def until(self, holds: Callable[[], bool], *, patience: float, what: str) -> None:
        """Wait until `holds`, looking twice a second. Fails with the state of all Workspaces."""
        deadline = time.monotonic() + patience
        while not holds():
            if time.monotonic() > deadline:
                state = self.kaito("get", "workspaces", "-A", "-o", "yaml").stdout
                raise AssertionError(f"waited {patience} s until {what}\n{state}")
            time.sleep(0.5)

    def apply(self, folder: Path, manifest: str) -> None:
        file = folder / "manifest.yaml"
        file.write_text(manifest)
        self.kaito("apply", "-f", str(file))

    def processes(self) -> list[psutil.Process]:
        """Every process that works for this home: the control plane, its children, the pods."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.home) in " ".join(process.cmdline()) or self._is_pod(process):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def _is_pod(self, process: psutil.Process) -> bool:
        return str(self.home) in process.cwd()


def tuning(
    name: str, registry: str, *, url: str = "", secret: str = "local-registry", preset: str = "tiny-phi-3"
) -> str:
    """examples/tiny/tuning.yaml with this machine's ports, and what a test changes."""
    text = (ROOT / "examples/tiny/tuning.yaml").read_text()
    text = text.replace("workspace-tuning-tiny-phi-3", name).replace("127.0.0.1:5010", registry)
    text = text.replace("imagePushSecret: local-registry", f"imagePushSecret: {secret}")
    text = text.replace("name: tiny-phi-3\n", f"name: {preset}\n")
    text = text.replace("tuned/tiny-phi-3:", f"tuned/{name}:")
    if url:
        text = text.replace(f"http://{registry}/data/dolly-harbour.parquet", url)
    return text
