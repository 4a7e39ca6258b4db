"""Where a container's paths really are: its volume mounts, and the file of its last words.

A process of this machine sees the machine's own file system, so a path of the container's is rewritten wherever we can
see that it is one: in a value of the environment or a word of the command that is a mount's path or lies under it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kaito.local.agent.errors import ContainerRefused


@dataclass(frozen=True)
class Mounts:
    """Container path -> real path, the deepest first."""

    pairs: tuple[tuple[str, Path], ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, Path]]) -> Mounts:
        clean = ((str(PurePosixPath(path)), real) for path, real in pairs)
        return cls(tuple(sorted(clean, key=lambda pair: len(pair[0]), reverse=True)))

    def rewrite(self, value: str) -> str:
        """The real path for a value that is, or lies under, a mounted path; any other value as it is."""
        for path, real in self.pairs:
            if value == path or (value.startswith(path + "/") and path != "/"):
                return str(real) + value[len(path) :]
        return value

    def find(self, path: str) -> Path | None:
        """The real path for a mounted path, or None."""
        rewritten = self.rewrite(path)
        return None if rewritten == path else Path(rewritten)


def container_mounts(container: dict[str, Any], volumes: dict[str, Path], variables: dict[str, str]) -> Mounts:
    """The mounts of one container. `volumes` are real folders by volume name; `variables` serve subPathExpr."""
    pairs = []
    for mount in container.get("volumeMounts") or ():
        volume = volumes.get(mount["name"])
        if volume is None:
            message = (
                f"container {container['name']!r} mounts the volume {mount['name']!r}, which the pod does not have"
            )
            raise ContainerRefused("CreateContainerConfigError", message)
        inner = mount.get("subPath") or _expand(mount.get("subPathExpr") or "", variables)
        if inner.startswith("/") or ".." in PurePosixPath(inner).parts:
            raise ContainerRefused("CreateContainerConfigError", f"subPath {inner!r} leaves its volume")
        real = volume / inner if inner else volume
        if inner and not real.exists():
            real.mkdir(parents=True)
        pairs.append((mount["mountPath"], real))
    return Mounts.of(pairs)


def _expand(text: str, variables: dict[str, str]) -> str:
    from kaito.local.agent.environment import expand

    return expand(text, variables)
