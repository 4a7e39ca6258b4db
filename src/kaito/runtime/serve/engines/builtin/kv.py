"""Keys and values of the sequences in flight, and the attention over them.

A step runs the tokens of several sequences in one row: `[1, tokens]`. Linear layers do not care, so nothing is padded;
only attention has to keep the sequences apart, and it is the one thing that is replaced here, through transformers' own
attention interface. Each sequence keeps its keys and values in buffers of its own, which grow by doubling and go when
it ends: no row is computed for padding, and the result for a sequence does not depend on who shares the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

FIRST_CAPACITY = 64  # tokens


class SequenceCache:
    """Keys and values of one sequence, a pair of buffers [kv heads, capacity, head size] per layer."""

    def __init__(self) -> None:
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        self.length = 0
        """Tokens of which every layer has keys and values."""

    def append(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add [kv heads, tokens, size] behind `length`; returns all up to there. `length` moves at the step's end."""
        end = self.length + key.shape[1]
        keys, values = self._grown(layer, key, value, end)
        keys[:, self.length : end] = key
        values[:, self.length : end] = value
        return keys[:, :end], values[:, :end]

    def _grown(self, layer: int, key: torch.Tensor, value: torch.Tensor, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._keys.get(layer), self._values.get(layer)
        if keys is not None and values is not None and keys.shape[1] >= end:
            return keys, values
        capacity = max(FIRST_CAPACITY, 1 << (end - 1).bit_length())
        more_keys = key.new_empty(key.shape[0], capacity, key.shape[2])
        more_values = value.new_empty(value.shape[0], capacity, value.shape[2])
        if keys is not None and values is not None:
            more_keys[:, : self.length] = keys[:, : self.length]
            more_values[:, : self.length] = values[:, : self.length]
        self._keys[layer], self._values[layer] = more_keys, more_values
        return more_keys, more_values

    def prefix(self, length: int) -> SequenceCache:
        """A copy of the first `length` tokens, for another sequence that begins alike."""
        made = SequenceCache()
        made._keys = {layer: keys[:, :length].clone() for layer, keys in self._keys.items()}
        made._values = {layer: values[:, :length].clone() for layer, values in self._values.items()}
        made.length = length
        return made

    @property
    def bytes_per_token(self) -> int:
        buffers = [*self._keys.values(), *self._values.values()]
        return sum(one.shape[0] * one.shape[2] * one.element_size() for one in buffers)


@dataclass(frozen=True)
class Segment:
    """Tokens [start, end) of the step's row belong to this cache."""

    cache: SequenceCache
    start: int
    end: int


@dataclass
class SegmentedAttention:
    """The attention function of one engine. `segments` is set before each step; one thread uses it."""

    name: str
    segments: Sequence[Segment] = field(default_factory=tuple)
    dtype: torch.dtype | None = None
    """What keys and values are kept and multiplied in; None for the model's own."""

    def register(self) -> None:
        AttentionInterface.register(self.name, self)

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **settings: Any,
    ) -> tuple[torch.Tensor, None]:
        """`query` [1, heads, tokens, size], `key` and `value` [1, kv heads, tokens, size] -> [1, tokens, heads, size].

        Masks are made here: transformers makes none for an attention that it does not know.
        """
        layer: Any = module.layer_idx
        given = query.dtype
        if self.dtype is not None:
            query, key, value = query.to(self.dtype), key.to(self.dtype), value.to(self.dtype)
        results = []
        for segment in self.segments:
            span = slice(segment.start, segment.end)
            keys, values = segment.cache.append(layer, key[0, :, span], value[0, :, span])
            results.append(attend(query[0, :, span], keys, values, settings))
        return torch.cat(results, dim=0).unsqueeze(0).to(given), None

    def end_step(self) -> None:
        for segment in self.segments:
            segment.cache.length += segment.end - segment.start
        self.segments = ()


def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
    """Causal attention of the last tokens of one sequence.

    `query` [heads, new, size], `keys` and `values` [kv heads, all, size]; `settings` as transformers gives them:
    scaling, sliding_window, softcap, s_aux (a learnt logit per head that takes part in the softmax).
    Returns [new, heads, size].
    """
    scale = settings.get("scaling")
    window = settings.get("sliding_window")
    new, total = query.shape[1], keys.shape[1]
    if new == 1 and window is not None and total > window:
        keys, values, total = keys[:, -window:], values[:, -window:], window
    if settings.get("softcap") is not None or settings.get("s_aux") is not None:
        return _attend_written_out(query, keys, values, scale, window, settings)
    heads, kv_heads = query.shape[0], keys.shape[0]
    if new == 1:
        # The query heads that share a key head stand as its rows: no key is repeated, and no mask is needed.
        grouped = query.reshape(1, kv_heads, heads // kv_heads, query.shape[2])
        result = functional.scaled_dot_product_attention(grouped, keys[None], values[None], scale=scale)
        return result.reshape(1, heads, values.shape[2])
    # A whole prompt at once needs no mask, and what lies above the diagonal is then not computed at all.
    is_whole = new == total and (window is None or total <= window)
    result = functional.scaled_dot_product_attention(
        query[None],
        _repeated(keys, heads)[None],
        _repeated(values, heads)[None],
        attn_mask=None if is_whole else _mask(new, total, window, query.device),
        is_causal=is_whole,
        scale=scale,
    )
    return result[0].transpose(0, 1)


def _attend_written_out(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float | None,
    window: int | None,
    settings: dict[str, Any],
) -> torch.Tensor:
    heads = query.shape[0]
    scores = query @ _repeated(keys, heads).transpose(1, 2) * (scale or query.shape[2] ** -0.5)
    cap = settings.get("softcap")
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~_mask(query.shape[1], keys.shape[1], window, query.device), float("-inf"))
    sinks = settings.get("s_aux")
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(-1, 1, 1).expand(-1, scores.shape[1], 1)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)[..., : keys.shape[1]]
    return (weights @ _repeated(values, heads)).transpose(0, 1)


def _repeated(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    return tensor if tensor.shape[0] == heads else tensor.repeat_interleave(heads // tensor.shape[0], dim=0)


def _mask(new: int, total: int, window: int | None, device: torch.device) -> torch.Tensor:
    """[new, total], True where the token may look: at itself and before, at most `window` tokens with itself."""
    queries = torch.arange(total - new, total, device=device)[:, None]
    keys = torch.arange(total, device=device)[None, :]
    seen = keys <= queries
    return seen if window is None else seen & (keys > queries - window)
