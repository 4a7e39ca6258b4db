"""Checkpoints as they lie on disk: which is whole, and of which run. Known without torch.

A checkpoint counts only once it carries the mark, which is written last: `kill -9` in the middle of saving leaves a
folder without it, and that one is thrown away.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

MARK = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def find_checkpoint(folder: Path, identity: str) -> Path | None:
    """The newest complete checkpoint of the same run (`identity`)."""
    found = [path for path in _checkpoints(folder) if _identity(path) == identity]
    return max(found, key=step_of, default=None)


def remove_useless(folder: Path, identity: str) -> None:
    """Remove the checkpoints that are broken, or of another run."""
    for path in _checkpoints(folder):
        if _identity(path) != identity:
            shutil.rmtree(path)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def write_mark(checkpoint: Path, identity: str, batch: int = 0, accumulate: int = 1) -> None:
    """Call it when all else of the checkpoint is written. `batch`: what fitted into memory, rows at once."""
    beside = checkpoint / f"{MARK}.new"
    mark = {"identity": identity, "step": step_of(checkpoint), "batch": batch, "accumulate": accumulate}
    beside.write_text(json.dumps(mark), encoding="utf-8")
    beside.replace(checkpoint / MARK)


def batches_of_checkpoint(checkpoint: Path) -> tuple[int, int] | None:
    """(batch, accumulate) that it was trained with."""
    mark = json.loads((checkpoint / MARK).read_bytes())
    batch, accumulate = mark.get("batch"), mark.get("accumulate")
    return (batch, accumulate) if isinstance(batch, int) and isinstance(accumulate, int) and batch > 0 else None


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]


def _identity(checkpoint: Path) -> str:
    try:
        return str(json.loads((checkpoint / MARK).read_bytes())["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
