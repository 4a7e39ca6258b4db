"""From a container's spec to the process that stands for it: what the shim is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from kaito.local.agent.cgroups import MemoryGroups, memory_limit
from kaito.local.agent.config import AgentConfig
from kaito.local.agent.configuration import Configuration
from kaito.local.agent.environment import PodFacts, environment, expand
from kaito.local.agent.mounts import Mounts, container_mounts
from kaito.local.agent.programs import resolve_argv

log = logging.getLogger(__name__)

TERMINATION_PATH = "/dev/termination-log"


class Launcher:
    """Makes run specs for the containers of the pod in `folder`, whose address is `address`."""

    def __init__(self, config: AgentConfig, folder: Path, address: str, memory: MemoryGroups | None) -> None:
        self._config = config
        self._folder = folder
        self._address = address
        self._memory = memory

    def spec(
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
        words = {
            field: [visible.rewrite(expand(word, variables)) for word in container.get(field) or ()]
            for field in ("command", "args")
        }
        return {
            "argv": resolve_argv({**container, **words}, self._config),
            "env": self._process_environment(variables, visible, facts, run / "termination"),
            "cwd": str(self._working_folder(container, mounts)),
            "tty": bool(container.get("tty")),
            "stdin": bool(container.get("stdin")),
            "stdin_once": bool(container.get("stdinOnce")),
            "cgroup": self._cgroup(container, number),
            "log_bytes": self._config.log_bytes,
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
