"""What fits on the GPU: whether activations are recomputed, and how many rows go through at once.

A rule of thumb on the memory that is free once the weights are loaded. It errs on the safe side where it can; where it
does not, running out of memory halves the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

USABLE = 0.7  # of the free memory; the rest is for fragments, the optimizer and the library's own
NUMBER = 2  # bytes of a half-precision number
HIDDEN_KEPT = 16  # hidden-sized numbers that a layer keeps for a token when nothing is recomputed
INNER_KEPT = 4  # numbers of the width of its feed-forward part


@dataclass(frozen=True)
class MemoryPlan:
    batch: int
    accumulate: int
    checkpointing: bool


def plan_memory(config: Any, lengths: Sequence[int], batch: int, free: int) -> MemoryPlan:
    """For rows of these lengths in batches of `batch`, with `free` bytes; `config` is the model's.

    Rows per step stay as they were asked for: what a batch cannot hold is accumulated.
    """
    per_token = _bytes_per_token(config)
    longest = sorted(lengths, reverse=True)
    if per_token is None or not longest:
        return MemoryPlan(batch, 1, checkpointing=True)
    kept, recomputed = per_token
    usable = free * USABLE
    if sum(longest[:batch]) * kept <= usable:
        return MemoryPlan(batch, 1, checkpointing=False)
    smaller = batch
    while smaller > 1 and sum(longest[:smaller]) * recomputed > usable:
        smaller //= 2
    return MemoryPlan(smaller, max(1, batch // smaller), checkpointing=True)


def _bytes_per_token(config: Any) -> tuple[int, int] | None:
    """Bytes that one token takes without recomputing, and with; None for a model that says too little of itself."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    hidden, layers = getattr(text, "hidden_size", None), getattr(text, "num_hidden_layers", None)
    vocabulary = getattr(text, "vocab_size", None)
    if not hidden or not layers or not vocabulary:
        return None
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    layer = (HIDDEN_KEPT * hidden + INNER_KEPT * inner) * NUMBER
    logits = 2 * 4 * vocabulary  # in single precision, with their gradient
    return layers * layer + logits, layers * hidden * NUMBER + layer + logits
