"""Checkpoints that a killed trainer comes back to.

A checkpoint counts only once it carries the mark, which is written last: `kill -9` in the middle of saving leaves a
folder without it, and that one is thrown away. Saved every few minutes, and at SIGTERM.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

MARK = "complete.json"
EVERY = 300.0  # seconds
_NAME = re.compile(r"checkpoint-(\d+)")


def find_checkpoint(folder: Path, identity: str) -> Path | None:
    """The newest complete checkpoint of the same run (`identity`); broken and foreign ones are removed."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        if _identity(path) == identity:
            found.append((int(match[1]), path))
        else:
            shutil.rmtree(path)
    return max(found)[1] if found else None


def _identity(checkpoint: Path) -> str:
    try:
        return str(json.loads((checkpoint / MARK).read_bytes())["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


class Checkpoints(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Saves every `every` seconds, and once more when `stop` is set, after which training ends."""

    def __init__(
        self,
        identity: str,
        stop: threading.Event,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._stop = stop
        self._every = every
        self._clock = clock
        self._saved_at = clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self._stop.is_set():
            control.should_save = True
            control.should_training_stop = True
        elif self._clock() - self._saved_at >= self._every and state.global_step < state.max_steps:
            control.should_save = True
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        beside = folder / f"{MARK}.new"
        beside.write_text(json.dumps({"identity": self._identity, "step": state.global_step}))
        beside.replace(folder / MARK)
        self._saved_at = self._clock()
        return control
