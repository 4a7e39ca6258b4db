"""A loss that is no number: at which step, and of which rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaito.runtime.errors import InputError
from kaito.runtime.tune.tokens import Tokens

NAMED = 8  # rows that the message names


class NotFinite(InputError):
    """The loss is NaN or infinite. Wrong input: the same data and settings would end there again."""

    def __init__(self, step: int, epoch: float, loss: float, rows: Sequence[str]) -> None:
        named = ", ".join(rows[:NAMED]) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")
        of = f", of the rows {named}" if rows else ""
        super().__init__(
            "LossNotFinite",
            f"the training loss is {loss} at step {step} (epoch {epoch:.2f}){of}",
            "look at these rows, lower learning_rate, or use a GPU with bfloat16 if this one trains in float16",
        )


def rows_of_batch(inputs: Mapping[str, Any], rows: Sequence[Tokens], names: Sequence[str]) -> list[str]:
    """The names of the rows that a batch was made of, whether padded, concatenated or packed."""
    known = {tuple(row.input_ids): name for row, name in zip(rows, names, strict=True)}
    return [known[ids] for ids in _sequences(inputs) if ids in known]


def _sequences(inputs: Mapping[str, Any]) -> list[tuple[int, ...]]:
    ids = inputs["input_ids"].tolist()
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if mask is not None:
        return [
            tuple(one for one, shown in zip(row, kept, strict=True) if shown)
            for row, kept in zip(ids, mask.tolist(), strict=True)
        ]
    if positions is None:
        return [tuple(row) for row in ids]
    found: list[list[int]] = []
    for row, places in zip(ids, positions.tolist(), strict=True):
        for one, place in zip(row, places, strict=True):
            if place == 0:
                found.append([])
            found[-1].append(one)
    return [tuple(one) for one in found]
