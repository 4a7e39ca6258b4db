"""One fault of an object: where, what, and the way out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """`field` is a path such as `tuning.preset.name`; `message` goes on from it; `hint` is a sentence or empty."""

    field: str
    message: str
    hint: str = ""
    reason: str = "InvalidSpec"
    line: int = 0
    """Of the text that the field is in, where that is known; counted from 1."""

    @property
    def where(self) -> str:
        return f"line {self.line}: {self.field}" if self.line else self.field

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}"
        return f"{text}. {self.hint}" if self.hint else text
