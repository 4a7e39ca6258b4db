"""A process in a container counts what the container may use, in both versions of control groups."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from kaito.runtime.limits import free_memory, usable_cores

CORES = len(os.sched_getaffinity(0))
GIB = 1 << 30


def world(tmp_path: Path, groups: str, files: Mapping[str, str]) -> tuple[Path, Path]:
    """The control groups' folder, and the file that says in which of them we are."""
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "groups").write_text(groups)
    return tmp_path / "root", tmp_path / "groups"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, CORES),
        ("0::/\n", {"cpu.max": "6400000 100000"}, CORES),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/not/seen\n", {"cpu.max": "100000 100000"}, 1),
        ("3:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "90000", "cpu/x/cpu.cfs_period_us": "90000"}, 1),
        ("3:cpu:/x\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, CORES),
        ("", {}, CORES),
    ],
    ids=["one", "half", "no limit", "more than there are", "above us", "root alone seen", "v1", "v1 no limit", "none"],
)
def test_cores(groups: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert usable_cores(*world(tmp_path, groups, files)) == cores


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        (
            "0::/\n",
            {
                "memory.max": str(GIB),
                "memory.current": str(GIB // 2),
                "memory.stat": f"anon 5\ninactive_file {GIB // 4}",
            },
        ),
        (
            "4:memory:/pod\n0::/\n",
            {
                "memory/pod/memory.limit_in_bytes": str(GIB),
                "memory/pod/memory.usage_in_bytes": str(GIB // 2),
                "memory/pod/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 4}",
                "memory/memory.limit_in_bytes": str(1 << 63),
                "memory/memory.usage_in_bytes": str(GIB),
            },
        ),
    ],
    ids=["v2", "v1"],
)
def test_memory(groups: str, files: dict[str, str], tmp_path: Path) -> None:
    assert free_memory(*world(tmp_path, groups, files)) == GIB * 3 // 4


def test_memory_without_limits_is_the_machines(tmp_path: Path) -> None:
    free = free_memory(*world(tmp_path, "0::/\n", {"memory.max": "max", "memory.current": "5"}))
    assert abs(free - psutil.virtual_memory().available) < GIB


def test_this_process() -> None:
    assert 1 <= usable_cores() <= CORES
    assert 0 < free_memory() <= psutil.virtual_memory().total
