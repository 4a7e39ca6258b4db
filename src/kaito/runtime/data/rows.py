"""The words of the data room: a raw row out of a file, an example for training, and a rejection with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RawRow:
    """One record of a file. `line` counts from 1: the line of a text file, the row of a columnar one."""

    file: str
    line: int
    value: Any


@dataclass(frozen=True)
class Message:
    """One turn of a chat. `extra` keeps tool calls, tool results' names and the like, as the template wants them."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """What is trained on: exactly one of `messages`, `prompt` with `completion`, or `text`."""

    kind: str  # chat, pair, text
    messages: tuple[Message, ...] = ()
    tools: str = ""  # JSON list, as the chat template wants it
    prompt: str = ""
    completion: str = ""
    text: str = ""


@dataclass(frozen=True)
class Rejection:
    """A row that cannot be trained on."""

    file: str
    line: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {"file": self.file, "line": self.line, "why": self.why}

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


class Unusable(Exception):
    """A row or a file that cannot be used; the text says why."""
