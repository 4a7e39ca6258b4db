"""What training shows while it runs: `/progress`, `progress.json`, one log line a step (or a bar for a terminal)."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kaito.runtime.progress import finite
from kaito.runtime.step import Step
from kaito.runtime.tune.device import Device

LOG_EVERY = 1.0  # seconds between log lines: a tiny model makes tens of steps a second
WINDOW = 50  # steps that the speed is an average of


class Observer(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Feeds the step's progress. `tokens` tells how many tokens were trained so far."""

    def __init__(
        self,
        step: Step,
        device: Device,
        tokens: Callable[[], float],
        file: Path,
        clock: Callable[[], float] = time.monotonic,
        alive: Callable[[int | None], None] = lambda train_step: None,
    ) -> None:
        self._step = step
        self._alive = alive
        self._device = device
        self._tokens = tokens
        self._file = file
        self._clock = clock
        self._marks: deque[tuple[float, int, float]] = deque(maxlen=WINDOW)  # time, step, tokens
        self._logged_at = -math.inf
        self.losses: list[tuple[int, float]] = []
        self.eval_losses: list[tuple[int, float]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._marks.append((self._clock(), state.global_step, self._tokens()))
        self._step.progress.update(
            trainStep=state.global_step,
            totalSteps=state.max_steps,
            epoch=0.0 if state.epoch is None else round(state.epoch, 3),
            message="training",
            startedAt=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        # After a resume, the curve of before comes out of the trainer's own state.
        self.losses = [(e["step"], e["loss"]) for e in state.log_history if "loss" in e]
        self.eval_losses = [(e["step"], e["eval_loss"]) for e in state.log_history if "eval_loss" in e]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._alive(state.global_step)
        now, tokens = self._clock(), self._tokens()
        self._marks.append((now, state.global_step, tokens))
        then, step, before = self._marks[0]
        seconds = max(now - then, 1e-9)
        left = (state.max_steps - state.global_step) * seconds / max(1, state.global_step - step)
        self._step.progress.update(
            trainStep=state.global_step,
            totalSteps=state.max_steps,
            epoch=round(state.epoch or 0.0, 3),
            tokensPerSecond=round((tokens - before) / seconds, 1),
            etaSeconds=round(left, 1),
            memoryBytes=self._device.peak_memory(),
        )

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._alive(None)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._alive(None)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if "eval_loss" in logs:
            self.eval_losses.append((state.global_step, logs["eval_loss"]))
            self._step.progress.update(evalLoss=logs["eval_loss"])
        if "loss" in logs:
            self._log_loss(state, logs)

    def _log_loss(self, state: TrainerState, logs: dict[str, float]) -> None:
        loss = float(logs["loss"])
        self.losses.append((state.global_step, loss))
        self._step.progress.update(loss=loss, learningRate=logs.get("learning_rate"), gradNorm=logs.get("grad_norm"))
        if self._clock() - self._logged_at >= LOG_EVERY or state.global_step >= state.max_steps:
            self._logged_at = self._clock()
            fields = self._step.progress.snapshot()
            shown = ("trainStep", "totalSteps", "epoch", "loss", "tokensPerSecond", "etaSeconds")
            if sys.stdout.isatty():
                print(f"\r{bar(fields)}\033[K", end="\n" if state.global_step >= state.max_steps else "", flush=True)
            else:
                self._step.say("train", **{name: fields.get(name) for name in shown})
            self._write(fields)

    def _write(self, fields: dict[str, Any]) -> None:
        beside = self._file.with_name(f"{self._file.name}.new")
        beside.write_text(json.dumps(finite(fields)), encoding="utf-8")
        beside.replace(self._file)


def bar(fields: Mapping[str, Any], width: int = 30) -> str:
    """One line for a terminal: how far, the loss, the speed, the time left."""
    step, total = fields.get("trainStep") or 0, fields.get("totalSteps") or 1
    done = min(width, width * step // total)
    left = int(fields.get("etaSeconds") or 0)
    return (
        f"[{'#' * done}{'.' * (width - done)}] {step}/{total}  loss {fields.get('loss') or 0:.4f}  "
        f"{fields.get('tokensPerSecond') or 0:.0f} tokens/s  {left // 60}:{left % 60:02d} left"
    )
