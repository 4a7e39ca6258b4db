"""When checkpoints are written: every few minutes, and once more when the step is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kaito.runtime.tune.ranks import any_rank, is_first, wait_for_all
from kaito.runtime.tune.saved import write_mark
from kaito.runtime.tune.trainer import Batches

EVERY = 300.0  # seconds


class Checkpoints(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Saves every `every` seconds, and once more when `stop` is set, after which training ends.

    `saved` is told of each whole checkpoint; it must return at once, because training waits for it.
    """

    def __init__(
        self,
        identity: str,
        batches: Batches,
        stop: threading.Event,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        saved: Callable[[Path], None] = lambda checkpoint: None,
    ) -> None:
        self._identity = identity
        self._batches = batches
        self._stop = stop
        self._every = every
        self._clock = clock
        self._saved = saved
        self._saved_at = clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        is_due = is_first() and self._clock() - self._saved_at >= self._every
        # All processes save together: what one of them has to do, all do.
        is_stopped, is_due = any_rank(self._stop.is_set(), is_due)
        if is_stopped:
            self._stop.set()
            control.should_save = True
            control.should_training_stop = True
        elif is_due and state.global_step < state.max_steps:
            control.should_save = True
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        wait_for_all()  # each process writes its random state
        if is_first():
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            write_mark(checkpoint, self._identity, self._batches.size, self._batches.accumulate)
            self._saved(checkpoint)
        self._saved_at = self._clock()
        return control
