"""What the demonstration prints: a line of plain words for each stage, a bar while one is long, times at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kaito.cli.tables import align


class Show:
    def __init__(self) -> None:
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.seconds: dict[str, float] = {}
        self._number = 0

    @contextmanager
    def step(self, name: str, words: str) -> Iterator[None]:
        """One stage: its words, a moving bar on a terminal while it lasts, and its time in `seconds`."""
        self._number += 1
        self.console.print(f"\n[{self._number}] {words}", markup=False, style="bold")
        started = time.monotonic()
        bar = Progress(
            TextColumn("  "), BarColumn(bar_width=30, pulse_style="cyan"), TimeElapsedColumn(), transient=True,
            console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        bar.add_task(name, total=None)
        with bar:
            try:
                yield
            finally:
                self.seconds[name] = round(time.monotonic() - started, 1)

    @contextmanager
    def watched_step(self, name: str, words: str) -> Iterator[None]:
        """A stage that draws for itself."""
        self._number += 1
        self.console.print(f"\n[{self._number}] {words}", markup=False, style="bold")
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 1)

    def say(self, text: str) -> None:
        self.console.print(f"    {text}", markup=False)

    def block(self, text: str) -> None:
        """Text as it would stand in a terminal or a file, indented."""
        self.console.print("\n".join(f"    {line}" for line in text.splitlines()), markup=False)

    def command(self, text: str) -> None:
        self.console.print(f"    $ {text}", markup=False, style="dim")

    def summary(self, report: dict[str, Any], path: Path) -> None:
        self.console.print()
        rows = [["STEP", "SECONDS"], *([name, f"{seconds:.1f}"] for name, seconds in self.seconds.items())]
        self.block(align(rows))
        before, after, total = report["before"], report["after"], report["total"]
        self.console.print(f"\nRight before tuning: {before} of {total}. After: {after} of {total}.", style="bold")
        self.console.print(f"Report: {path}", markup=False)
