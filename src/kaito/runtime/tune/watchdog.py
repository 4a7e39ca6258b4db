"""A training that stands still: said in `/progress` and the log, with what all threads do; in the end it gives up.

A hung collective, a lost GPU or a dead network volume raise no error: without this, a pod holds its GPUs for ever.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable

from kaito.runtime.errors import StepError
from kaito.runtime.step import DEFAULT_TERMINATION_LOG, Step, end_with

SLOW = 10.0  # times the longest step so far
LEAST = 300.0  # seconds; no step is called stalled before
BEFORE_FIRST = 1800.0  # seconds; the first step compiles kernels and fills caches
GIVE_UP = 3600.0  # seconds; then the step ends, to be started again from its last checkpoint
LOOK = 5.0  # seconds between two looks


class Watchdog:
    """Told of life by `alive`; a context manager that looks from a thread of its own.

    KAITO_STALL_SECONDS: when a step counts as stalled; by default ten times the longest step, at least five minutes.
    KAITO_STALL_LIMIT_SECONDS: when to give up (an hour after the last life); 0 never.
    """

    def __init__(self, step: Step, give_up: Callable[[StepError], None] | None = None) -> None:
        self._step = step
        self._given = step.number("KAITO_STALL_SECONDS", 0.0)
        self._limit = step.number("KAITO_STALL_LIMIT_SECONDS", GIVE_UP)
        self._give_up = give_up or self._end
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._seen_at = step.clock()
        self._step_at: float | None = None
        self._longest = 0.0
        self._at = 0
        self._is_stalled = False

    def alive(self, train_step: int | None = None) -> None:
        """Something was done; `train_step` is the optimizer step that has just ended, if one has."""
        with self._lock:
            now = self._step.clock()
            if train_step is not None:
                if self._step_at is not None:
                    self._longest = max(self._longest, now - self._step_at)
                self._step_at, self._at = now, train_step
            self._seen_at = now
            was_stalled, self._is_stalled = self._is_stalled, False
        if was_stalled:
            self._step.progress.running("training")
            self._step.say("training goes on", trainStep=train_step)

    @property
    def patience(self) -> float:
        """Seconds without life after which the training is called stalled."""
        if self._given:
            return self._given
        return max(LEAST, SLOW * self._longest) if self._longest else BEFORE_FIRST

    def look(self) -> None:
        """One look; the thread does it every few seconds."""
        with self._lock:
            silent = self._step.clock() - self._seen_at
            is_news = silent > self.patience and not self._is_stalled
            self._is_stalled = self._is_stalled or is_news
        if is_news:
            failure = self._failure(silent)
            self._step.progress.waiting(failure)
            self._step.say("training is stalled", **failure.as_dict())
            faulthandler.dump_traceback(sys.stderr)
        if self._is_stalled and self._limit and silent > max(self._limit, self.patience):
            self._give_up(self._failure(silent))

    def _failure(self, silent: float) -> StepError:
        usual = f" (the longest took {self._longest:.1f} s)" if self._longest else ""
        return StepError(
            "TrainingStalled",
            f"no training step has ended for {silent:.0f} s after step {self._at}{usual}",
            "look at the node's GPUs and volumes; the log shows what each thread waits for; "
            "deleting the pod resumes from the last checkpoint",
        )

    def _end(self, failure: StepError) -> None:
        """The main thread cannot be woken, so the process ends from here."""
        log = self._step.environ.get("KAITO_TERMINATION_LOG", DEFAULT_TERMINATION_LOG)
        os._exit(end_with(log, failure.exit_code, failure.as_dict()))

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            self.look()

    def __enter__(self) -> Watchdog:
        self._seen_at = self._step.clock()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()


__all__ = ["Watchdog"]
