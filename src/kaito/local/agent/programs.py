"""Which image is which program of this machine.

An image whose entry point this machine has runs as that program. Any other runs through a container engine
(`engines.py`), or its container waits and its status says what can be done.
"""

from __future__ import annotations

import shutil
from typing import Any

from kaito.local.agent.config import RUNTIME_REPOSITORY, AgentConfig
from kaito.local.agent.errors import ContainerRefused

RUNTIME_COMMAND = "kaito-runtime"
REASON = "ImageNotRunnable"


def repository(image: str) -> str:
    """The image without its tag and digest, and without Docker Hub's default registry."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    for prefix in ("docker.io/library/", "docker.io/"):
        name = name.removeprefix(prefix)
    return name


def resolve_argv(container: dict[str, Any], config: AgentConfig) -> list[str] | None:
    """The process that stands for a container; None for an image that is no program of this machine.

    Raises ContainerRefused where the program is not installed, or is another than the container asks for.
    """
    command, args = list(container.get("command") or ()), list(container.get("args") or ())
    image = str(container.get("image") or "")
    name = repository(image)
    if name in config.programs:
        return [*config.programs[name], *command, *args]
    if is_runtime(image, config):
        return _runtime_argv(command, args, config)
    if name in config.host_programs:
        return _host_argv(config.host_programs[name], command, args, image)
    return None


def not_runnable(image: str, config: AgentConfig, why: str) -> ContainerRefused:
    known = ", ".join(sorted(("kaito/runtime", *config.host_programs)))
    return ContainerRefused(
        REASON,
        f"this machine runs no containers of the image {image!r}: {known} run as programs of the machine, any other "
        f"image through podman or docker: {why}",
    )


def is_runtime(image: str, config: AgentConfig) -> bool:
    name = repository(image)
    return name == RUNTIME_REPOSITORY or name.endswith("/" + RUNTIME_REPOSITORY) or image == config.runtime_image


def _runtime_argv(command: list[str], args: list[str], config: AgentConfig) -> list[str]:
    words = [*command, *args] if command else [RUNTIME_COMMAND, *args]
    if words[0] == RUNTIME_COMMAND:
        return [config.python, "-P", "-m", "kaito.runtime.main", *words[1:]]
    if words[0] in ("python", "python3"):
        return [config.python, *words[1:]]
    return words


def _host_argv(program: str, command: list[str], args: list[str], image: str) -> list[str]:
    path = shutil.which(program)
    if path is None:
        raise ContainerRefused(REASON, f"the image {image!r} stands for this machine's {program}: install {program}")
    # The images' entry points take their own name as a first argument too: `kubectl run ... -- curl URL`.
    words = [*command, *args] if command else args if args[:1] == [program] else [program, *args]
    if words[0] == program:
        return [path, *words[1:]]
    if shutil.which(words[0]) is not None:
        return words
    raise ContainerRefused(
        REASON, f"the image {image!r} stands for this machine's {program}, which has no {words[0]!r}"
    )
