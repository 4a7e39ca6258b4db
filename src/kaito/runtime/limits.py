"""What this process may use of the machine: its cores and memory, or less where its container is limited.

A pod sees all cores and all memory of its node; only its control group says how much it gets. Who counts the node's
instead starts too many threads, which are then stopped for a part of every period, and plans with memory that it is
killed for. Both versions of control groups are read, and every group above ours that can be seen. Sources, in the
kernel's documentation: cgroup-v2.rst (`cpu.max`, `memory.max`, `memory.stat`) and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
GROUPS = Path("/proc/self/cgroup")


def usable_cores(root: Path = ROOT, groups: Path = GROUPS) -> int:
    """Whole cores that this process may keep busy, at least one."""
    shares = [share for folder in _folders(root, groups, "cpu") if (share := _cpu_share(folder)) is not None]
    return max(1, int(min([len(os.sched_getaffinity(0)), *shares])))


def free_memory(root: Path = ROOT, groups: Path = GROUPS) -> int:
    """Bytes that this process may still take."""
    rooms = [room for folder in _folders(root, groups, "memory") if (room := _room(folder)) is not None]
    return max(0, min([int(psutil.virtual_memory().available), *rooms]))


def _folders(root: Path, groups: Path, controller: str) -> Iterator[Path]:
    """Folders of our group and those above it, of either version; within a container often the root alone is seen."""
    for line in _text(groups).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        folder = root / controller if names else root
        yield folder
        for part in Path(path).parts[1:]:
            folder = folder / part
            yield folder


def _cpu_share(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    if not quota.isdecimal() or not period.strip().isdecimal():  # `max`, -1, or no such group
        return None
    return int(quota) / int(period)


def _room(folder: Path) -> int | None:
    names = ("memory.max", "memory.current", "inactive_file")
    if not (folder / names[0]).exists():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, used = _text(folder / names[0]), _text(folder / names[1])
    if not limit.isdecimal() or not used.isdecimal():
        return None
    # What files left in memory and nobody looked at lately is given back before anything is killed.
    found = (line.split() for line in _text(folder / "memory.stat").splitlines())
    unused = next((int(value) for key, value in found if key == names[2]), 0)
    return int(limit) - int(used) + unused


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
