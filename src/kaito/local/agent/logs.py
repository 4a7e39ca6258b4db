"""Reading containers' logs, which the shim writes in CRI's format: time, stream, F or P, text."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from kaito.local.agent.lifecycle import parse_time

FOLLOW_SECONDS = 0.1
LAST_WORDS_BYTES = 2048
LAST_WORDS_LINES = 80


@dataclass(frozen=True)
class Line:
    time: bytes
    text: bytes
    """With its newline, unless it is a part of a line."""


def parse_line(raw: bytes) -> Line | None:
    time, _, rest = raw.rstrip(b"\n").partition(b" ")
    _, _, rest = rest.partition(b" ")
    tag, space, text = rest.partition(b" ")
    if not space:
        return None
    return Line(time, text if tag == b"P" else text + b"\n")


def read_lines(folder: Path) -> Iterator[Line]:
    """All lines of a run, oldest first."""
    for name in ("log.1", "log"):
        path = folder / name
        if path.exists():
            with path.open("rb") as file:
                yield from (line for line in map(parse_line, file) if line is not None)


def last_words(folder: Path) -> str:
    """The end of a run's log, for a termination message: at most 80 lines and 2048 bytes."""
    lines = [line.text for line in read_lines(folder)][-LAST_WORDS_LINES:]
    return b"".join(lines)[-LAST_WORDS_BYTES:].decode(errors="replace")


class LogReader:
    """One run's log for one client. `is_over` tells whether more can come."""

    def __init__(
        self, folder: Path, is_over: Callable[[], bool], *, timestamps: bool = False, since: datetime | None = None
    ) -> None:
        self._folder = folder
        self._is_over = is_over
        self._timestamps = timestamps
        self._since = since
        self._midline = False

    async def read(self, *, tail: int | None, follow: bool) -> AsyncIterator[bytes]:
        with self._open() as file:
            opened = file
            lines = [line for line in self._older() if self._is_wanted(line)]
            lines += [line for line in self._take(opened) if self._is_wanted(line)]
            if tail is not None:
                lines = _tail(lines, tail)
            if lines:
                yield self._render(lines)
            if follow:
                async for chunk in self._follow(opened):
                    yield chunk

    def _open(self) -> BinaryIO:
        path = self._folder / "log"
        return path.open("rb") if path.exists() else Path("/dev/null").open("rb")

    def _older(self) -> Iterator[Line]:
        path = self._folder / "log.1"
        if path.exists():
            with path.open("rb") as file:
                yield from (line for line in map(parse_line, file) if line is not None)

    async def _follow(self, file: BinaryIO) -> AsyncIterator[bytes]:
        """New lines until the run is over; the writer sends no events, so this looks again and again."""
        current = file
        try:
            while True:
                over = self._is_over()
                lines = self._take(current)
                rotated = self._rotated(current)
                if rotated is not None:
                    lines += self._take(current)
                    current.close()
                    current = rotated
                    lines += self._take(current)
                if lines:
                    yield self._render(lines)
                elif over and rotated is None:
                    return
                else:
                    await asyncio.sleep(FOLLOW_SECONDS)
        finally:
            current.close()

    def _rotated(self, file: BinaryIO) -> BinaryIO | None:
        """The newer file when the shim has put the one we read aside (or has only now begun)."""
        path = self._folder / "log"
        try:
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return None
            return path.open("rb")
        except FileNotFoundError:
            return None

    def _take(self, file: BinaryIO) -> list[Line]:
        """Whole lines that are new in the file."""
        found: list[Line] = []
        while True:
            position = file.tell()
            raw = file.readline()
            if not raw.endswith(b"\n"):
                file.seek(position)
                return found
            line = parse_line(raw)
            if line is not None:
                found.append(line)

    def _is_wanted(self, line: Line) -> bool:
        return self._since is None or parse_time(line.time.decode()) >= self._since

    def _render(self, lines: list[Line]) -> bytes:
        rendered = bytearray()
        for line in lines:
            if self._timestamps and not self._midline:
                rendered += line.time + b" "
            rendered += line.text
            self._midline = not line.text.endswith(b"\n")
        return bytes(rendered)


def _tail(lines: list[Line], count: int) -> list[Line]:
    """The last `count` lines, where parts count with the line that they belong to."""
    if count <= 0:
        return []
    found = 0
    for index in range(len(lines) - 1, -1, -1):
        starts_line = index == 0 or lines[index - 1].text.endswith(b"\n")
        found += starts_line
        if found == count and starts_line:
            return lines[index:]
    return lines
