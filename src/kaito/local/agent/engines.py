"""Images that stand for no program of this machine run through podman or docker, where one is there and answers.

The engine's client is the container's process: it lives under the shim as any other, passes streams and signals on, and
ends with the container's exit code. The container has a name of ours, so that a command can enter it, and so that the
shim can remove it when its client was killed. It shares the machine's network: it reaches cluster addresses, and the
pod's address reaches it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.local.machinery.quantity import parse_quantity

KNOWN = ("podman", "docker")
ENGINE_VARIABLE = "KAITO_CONTAINER_ENGINE"
"""Of the environment of `kaito up`: `auto`, `none`, or the client to use."""
ANSWER_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 15.0
ENGINE_ERROR = 125
"""Exit code of the clients when it is not the container that failed: the image cannot be pulled, or not be started."""
PULL = {"Always": "always", "Never": "never"}
OWN_VARIABLES = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DOCKER_HOST", "DOCKER_CONFIG", "CONTAINER_HOST")
"""What the client reads for itself; the container's values go on its command line."""
LOOPBACK = ("127.", "localhost:")


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `program` is the path of its client."""

    program: str

    @property
    def is_podman(self) -> bool:
        return "podman" in Path(self.program).name

    def run(
        self, name: str, container: dict[str, Any], variables: Mapping[str, str], mounts: list[tuple[str, Path, bool]]
    ) -> list[str]:
        """The client's command line. `mounts` are (container path, real path, read only)."""
        command, args = list(container.get("command") or ()), list(container.get("args") or ())
        image = str(container["image"])
        words = [self.program, "run", "--rm", "--name", name, "--network", "host"]
        words += ["--pull", PULL.get(str(container.get("imagePullPolicy")), "missing")]
        if self.is_podman and image.startswith(LOOPBACK):
            words.append("--tls-verify=false")  # the registry of this machine; docker knows without being told
        words += _flags(container)
        for variable, value in variables.items():
            words += ["--env", f"{variable}={value}" if variable in OWN_VARIABLES else variable]
        for inside, real, read_only in mounts:
            words += ["--volume", f"{real}:{inside}{':ro' if read_only else ''}"]
        if command:
            words += ["--entrypoint", command[0]]
        return [*words, image, *command[1:], *args]

    def remove(self, name: str) -> list[str]:
        return [self.program, "rm", "--force", *(("--time", "0") if self.is_podman else ()), name]


def inside(spec: Mapping[str, Any], command: list[str], *, stdin: bool = False, tty: bool = False) -> list[str]:
    """The process that runs a command in the container of a run: the command itself, where the run is no engine's."""
    name = spec.get("engine_name")
    if not name:
        return command
    flags = [*(["--interactive"] if stdin else []), *(["--tty"] if tty else [])]
    return [str(spec["argv"][0]), "exec", *flags, str(name), *command]


def _flags(container: dict[str, Any]) -> Iterator[str]:
    security = container.get("securityContext") or {}
    if container.get("stdin"):
        yield "--interactive"
    if container.get("tty"):
        yield "--tty"
    if container.get("workingDir"):
        yield from ("--workdir", str(container["workingDir"]))
    if security.get("runAsUser") is not None:
        group = security.get("runAsGroup")
        yield from ("--user", f"{security['runAsUser']}" + (f":{group}" if group is not None else ""))
    if security.get("readOnlyRootFilesystem"):
        yield "--read-only"
    if security.get("privileged"):
        yield "--privileged"
    for name in (security.get("capabilities") or {}).get("drop") or ():
        yield from ("--cap-drop", str(name))
    for name in (security.get("capabilities") or {}).get("add") or ():
        yield from ("--cap-add", str(name))
    limits = (container.get("resources") or {}).get("limits") or {}
    if limits.get("memory"):
        yield from ("--memory", str(int(parse_quantity(str(limits["memory"])))))
    if limits.get("cpu"):
        yield from ("--cpus", f"{float(parse_quantity(str(limits['cpu']))):g}")


class Engines:
    """Finds the engine of this machine, once it is needed, and looks again while there is none.

    `choice` is `auto`, `none`, or the client to use, by name or path.
    """

    def __init__(self, choice: str = "auto") -> None:
        self._choice = choice
        self._found: Engine | None = None
        self._looked = 0.0
        self.why = ""
        """Why there is none, for people."""

    async def find(self) -> Engine | None:
        if self._found is None and (not self._looked or time.monotonic() - self._looked > LOOK_AGAIN_SECONDS):
            self._found = await self._look()
            self._looked = time.monotonic()
        return self._found

    async def _look(self) -> Engine | None:
        if self._choice == "none":
            self.why = "container engines are switched off here; use a cluster for other images"
            return None
        names = KNOWN if self._choice == "auto" else (self._choice,)
        silent = []
        for name in names:
            path = shutil.which(name)
            if path is None:
                continue
            told = await _ask(path)
            if not told:
                return Engine(path)
            silent.append(f"{path} is installed but does not answer ({told})")
        wanted = " or ".join(names)
        self.why = "; ".join(silent) or f"install {wanted} to run it, or use a cluster"
        return None


async def _ask(path: str) -> str:
    """Empty when the engine behind the client answers; else what went wrong."""
    try:
        child = await asyncio.create_subprocess_exec(
            path,
            "info",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )
    except OSError as error:
        return str(error.strerror)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, said = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return f"nothing within {ANSWER_SECONDS:g} s"
    lines = said.decode(errors="replace").strip().splitlines()
    return "" if child.returncode == 0 else (lines[-1] if lines else f"exit code {child.returncode}")
