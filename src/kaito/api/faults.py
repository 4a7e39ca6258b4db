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

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}"
        return f"{text}. {self.hint}" if self.hint else text
