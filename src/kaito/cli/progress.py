"""What `kaito wait` and the demonstration show of a Workspace: its columns as they change, and the training."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from kaito.api import conditions
from kaito.api.meta import Condition
from kaito.api.workspace import TuningStatus

COLUMNS = ("ResourceReady", "InferenceReady", "WorkspaceReady")


class Watcher:
    """Prints a line when the columns or the cause change, and draws a bar while the training runs."""

    def __init__(self, stream: TextIO, indent: str = "") -> None:
        self._indent = indent
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._last = ""
        self._progress = Progress(
            TextColumn("  training"),
            BarColumn(bar_width=30),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}  loss {task.fields[loss]}  {task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._bar: TaskID | None = None
        self._last_step = 0

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._progress.stop()

    def show(self, obj: dict[str, Any]) -> None:
        """Show what is new in this state of a Workspace; other kinds show nothing."""
        if obj.get("kind") != "Workspace":
            return
        status = obj.get("status", {})
        line = _line(obj["metadata"]["name"], msgspec.convert(status.get("conditions", []), list[Condition]))
        if line != self._last:
            self._console.print(self._indent + line, markup=False)
            self._last = line
        if status.get("tuning"):
            self._show_training(msgspec.convert(status["tuning"], TuningStatus))

    def _show_training(self, tuning: TuningStatus) -> None:
        if not tuning.totalSteps or tuning.step == self._last_step:
            return
        self._last_step = tuning.step
        left = f"{tuning.etaSeconds} s left" if tuning.etaSeconds else ""
        if not self._console.is_terminal:
            text = f"{self._indent}training step {tuning.step}/{tuning.totalSteps}  loss {tuning.loss}  {left}"
            self._console.print(text.rstrip(), markup=False)
            return
        if self._bar is None:
            self._progress.start()
            self._bar = self._progress.add_task("training", total=tuning.totalSteps, loss="", left="")
        self._progress.update(self._bar, completed=tuning.step, total=tuning.totalSteps, loss=tuning.loss, left=left)
        if tuning.step >= tuning.totalSteps:
            self._progress.stop()


def _line(name: str, found: list[Condition]) -> str:
    columns = "  ".join(f"{type_}={_status(found, type_)}" for type_ in COLUMNS)
    root = conditions.find(found, "WorkspaceReady")
    cause = f"  {root.reason}: {root.message}" if root is not None and root.status != "True" else ""
    return f"{name}  {columns}{cause}"


def _status(found: list[Condition], type_: str) -> str:
    condition = conditions.find(found, type_)
    return condition.status if condition else "-"
