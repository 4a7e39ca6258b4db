"""Memory limits by control groups, where this machine lets us make them: version 2, or the memory controller of 1.

Where it does not, containers run without a limit; a log line at the start says so.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.local.machinery.quantity import QuantityError, parse_quantity

log = logging.getLogger(__name__)

PARENT = "kaito"
ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroups:
    """A folder of the cgroup file system in which we may make groups, and its file for the limit."""

    parent: Path
    limit_file: str

    def make(self, name: str, limit: int) -> Path:
        """A group whose processes may use `limit` bytes together. Raises OSError."""
        group = self.parent / name
        group.mkdir(exist_ok=True)
        (group / self.limit_file).write_text(str(limit))
        swap = group / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
        return group

    def remove(self, prefix: str) -> None:
        """Remove the groups whose name begins with `prefix` and that are empty."""
        for group in self.parent.glob(f"{prefix}*"):
            with contextlib.suppress(OSError):  # a process may still be ending in it; the next removal gets it
                group.rmdir()


def find_memory_groups(root: Path = ROOT) -> MemoryGroups | None:
    """Where memory limits can be set on this machine, or None."""
    try:
        return _version_2(root) or _version_1(root / "memory")
    except OSError as error:
        log.info("memory limits are not enforced on this machine", extra={"why": str(error)})
        return None


def _version_2(root: Path) -> MemoryGroups | None:
    controllers = root / "cgroup.controllers"
    if not controllers.exists() or "memory" not in controllers.read_text().split():
        return None
    parent = root / PARENT
    _enable(root)
    parent.mkdir(exist_ok=True)
    _enable(parent)
    return MemoryGroups(parent, "memory.max")


def _enable(group: Path) -> None:
    control = group / "cgroup.subtree_control"
    if "memory" not in control.read_text().split():
        control.write_text("+memory")


def _version_1(controller: Path) -> MemoryGroups | None:
    if not (controller / "memory.limit_in_bytes").exists() and not (controller / "cgroup.procs").exists():
        return None
    parent = controller / PARENT
    parent.mkdir(exist_ok=True)
    return MemoryGroups(parent, "memory.limit_in_bytes")


def memory_limit(container: dict[str, Any]) -> int | None:
    """`resources.limits.memory` in bytes, or None."""
    amount = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    if not amount:
        return None
    try:
        return int(parse_quantity(amount))
    except QuantityError:
        return None
