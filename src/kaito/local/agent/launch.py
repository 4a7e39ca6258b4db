"""From a container's spec to the process that stands for it: what the shim is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kaito.local.agent.cgroups import MemoryGroups, memory_limit
from kaito.local.agent.config import AgentConfig
from kaito.local.agent.configuration import Configuration
from kaito.local.agent.environment import PodFacts, environment, expand
from kaito.local.agent.mounts import Mounts, container_mounts
from kaito.local.agent.programs import not_runnable, resolve_argv

log = logging.getLogger(__name__)

WORDS = ("command", "args")
TERMINATION_PATH = "/dev/termination-log"
ENGINE_VARIABLES = (
    "HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "CONTAINER_HOST",
)
"""Where the client of a container engine finds its engine and its logins."""


class Launcher:
    """Makes run specs for the containers of the pod in `folder`, whose address is `address`."""

    def __init__(self, config: AgentConfig, folder: Path, address: str, memory: MemoryGroups | None) -> None:
        self._config = config
        self._folder = folder
        self._address = address
        self._memory = memory

    async def spec(
        self,
        container: dict[str, Any],
        number: int,
        facts: PodFacts,
        configuration: Configuration,
        volumes: dict[str, Path],
    ) -> dict[str, Any]:
        """The shim's run.json for run `number`. Raises ContainerRefused."""
        variables = environment(container, facts, configuration)
        run = self._folder / "containers" / container["name"] / str(number)
        last_words = container.get("terminationMessagePath") or TERMINATION_PATH
        mounts = container_mounts(container, volumes, variables)
        visible = Mounts.of([*mounts.pairs, (last_words, run / "termination")])
        expanded = _with_words(container, lambda word: expand(word, variables))
        argv = resolve_argv(_with_words(expanded, visible.rewrite), self._config)
        if argv is None:
            process = await self._engine_process(expanded, number, variables, visible)
        else:
            environ = self._process_environment(variables, visible, facts, run / "termination")
            process = {"argv": argv, "env": environ, "cwd": str(self._working_folder(container, mounts))}
            process["cgroup"] = self._cgroup(container, number)
        return {
            **process,
            "tty": bool(container.get("tty")),
            "stdin": bool(container.get("stdin")),
            "stdin_once": bool(container.get("stdinOnce")),
            "log_bytes": self._config.log_bytes,
        }

    async def _engine_process(
        self, container: dict[str, Any], number: int, variables: dict[str, str], visible: Mounts
    ) -> dict[str, Any]:
        """A container engine's client in the place of the process. Raises ContainerRefused where there is none."""
        engine = await self._config.engines.find()
        if engine is None:
            raise not_runnable(str(container.get("image") or ""), self._config, self._config.engines.why)
        name = f"kaito-{self._folder.name}-{container['name']}-{number}"
        fixed = {mount["mountPath"] for mount in container.get("volumeMounts") or () if mount.get("readOnly")}
        mounts = [(path, real, path in fixed) for path, real in reversed(visible.pairs)]
        given = {**variables, "KAITO_HOST": variables.get("KAITO_HOST", self._address)}
        own = {key: value for key, value in self._config.environ.items() if key in ENGINE_VARIABLES}
        return {
            "argv": engine.run(name, container, given, mounts),
            "env": {**given, **self._config.inherited, **own},
            "cwd": str(self._folder / "work"),
            "engine_name": name,
            "cleanup": engine.remove(name),
        }

    def _cgroup(self, container: dict[str, Any], number: int) -> str:
        """The control group for the container's memory limit; empty without a limit, or where none can be set."""
        limit = memory_limit(container)
        if self._memory is None or limit is None:
            return ""
        name = f"{self._folder.name}-{container['name']}-{number}"
        try:
            return str(self._memory.make(name, limit))
        except OSError as error:
            log.warning("no memory limit set", extra={"container": container["name"], "error": str(error)})
            return ""

    def _process_environment(
        self, variables: dict[str, str], mounts: Mounts, facts: PodFacts, last_words: Path
    ) -> dict[str, str]:
        temporary = mounts.find("/tmp") or self._folder / "tmp"  # noqa: S108 - the container's /tmp, not ours
        base = {
            **self._config.inherited,
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(temporary),
            "HOSTNAME": str(facts.pod["metadata"]["name"]),
            "KAITO_HOST": self._address,
            "KAITO_TERMINATION_LOG": str(last_words),
            "PYTHONUNBUFFERED": "1",
        }
        # Only what the pod says is in the container's paths; the rest is in this machine's already.
        return {**base, **{name: mounts.rewrite(value) for name, value in variables.items()}}

    def _working_folder(self, container: dict[str, Any], mounts: Mounts) -> Path:
        """The container's workingDir where it lies in a volume; else the pod's own."""
        chosen = container.get("workingDir") or ""
        return mounts.find(chosen) or self._folder / "work"


def _with_words(container: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The container with every word of its command line changed."""
    return {**container, **{field: [change(word) for word in container.get(field) or ()] for field in WORDS}}
