"""What `kaito wait` and the demonstration show of a Workspace: its columns as they change, and the training.

On a terminal a line at the bottom shows that it goes on, and for how long: a node may take ten minutes.
"""

from __future__ import annotations

import re
from collections import deque
from types import TracebackType
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from kaito.api import conditions
from kaito.api.meta import Condition
from kaito.api.workspace import TuningStatus

DELETING = "The Workspace is being deleted."
RESTARTS = re.compile(r" \(\d+ restart\(s\)\)")
COLUMNS = ("ResourceReady", "InferenceReady", "WorkspaceReady")


class Elapsed(ProgressColumn):
    """`2m05s`: how long the wait has lasted."""

    def render(self, task: Task) -> Text:
        seconds = int(task.elapsed or 0)
        return Text(f"{seconds // 60}m{seconds % 60:02}s" if seconds >= 60 else f"{seconds}s")


class Watcher:
    """Prints a line when the columns or the cause change, and draws a bar while the training runs.

    A step that fails and starts again goes to and fro between two lines; both are shown once.
    """

    def __init__(self, stream: TextIO, indent: str = "") -> None:
        self._indent = indent
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._recent: deque[str] = deque(maxlen=2)
        self._waiting = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            Elapsed(),
            console=self._console,
            transient=True,
        )
        self._training = Progress(
            TextColumn("  training"),
            BarColumn(bar_width=30),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}  loss {task.fields[loss]}  {task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._last_step = 0

    def __enter__(self) -> Watcher:
        if self._console.is_terminal:
            self._waiting.add_task("waiting", total=None)
            self._waiting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for progress in (self._waiting, self._training):
            if progress.live.is_started:
                progress.stop()

    def show(self, obj: dict[str, Any]) -> None:
        """Show what is new in this state of a Workspace; of other kinds that they are waited for."""
        if obj.get("kind") != "Workspace":
            return
        status = obj.get("status", {})
        line = _line(obj["metadata"], msgspec.convert(status.get("conditions") or [], list[Condition]))
        plain = RESTARTS.sub("", line)
        if plain not in self._recent:
            self._console.print(self._indent + line, markup=False)
            self._recent.append(plain)
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
        elif tuning.step >= tuning.totalSteps:
            self._swap(self._training, self._waiting)
        else:
            self._swap(self._waiting, self._training)
            self._draw(tuning, left)

    def _draw(self, tuning: TuningStatus, left: str) -> None:
        if not self._training.task_ids:
            self._training.add_task("training", total=tuning.totalSteps, loss="", left="")
        bar = self._training.task_ids[0]
        self._training.update(bar, completed=tuning.step, total=tuning.totalSteps, loss=tuning.loss, left=left)

    @staticmethod
    def _swap(ends: Progress, begins: Progress) -> None:
        """One live line at a time."""
        if not begins.live.is_started:
            ends.stop()
            begins.start()


def _line(metadata: dict[str, Any], found: list[Condition]) -> str:
    name = str(metadata["name"])
    if metadata.get("deletionTimestamp"):
        going = conditions.find(found, "WorkspaceDeleting")
        says_more = going is not None and going.message not in ("", DELETING)
        return f"{name}  is being deleted" + (f": {going.message}" if going and says_more else "")
    columns = "  ".join(f"{type_}={_status(found, type_)}" for type_ in COLUMNS)
    root = conditions.find(found, "WorkspaceReady")
    cause = f"  {root.reason}: {root.message}" if root is not None and root.status != "True" else ""
    return f"{name}  {columns}{cause}"


def _status(found: list[Condition], type_: str) -> str:
    condition = conditions.find(found, type_)
    return condition.status if condition else "-"
