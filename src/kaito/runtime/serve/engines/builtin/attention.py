"""Attention over sequences that share a step, through transformers' own attention interface.

A step runs the tokens of several sequences in one row: `[1, tokens]`. Linear layers do not care, so nothing is padded;
only attention has to keep the sequences apart, and it is the one thing that is replaced here. Sequences that decode,
one token each, are taken together: every block of keys is multiplied with the query of the sequence that owns it, and
the parts are put together with one softmax for each sequence (as in flash decoding: Dao et al. 2023). Pieces of prompts
are taken one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface

from kaito.runtime.serve.engines.builtin.kv import BLOCK, BlockPool, SequenceCache

NEVER = float("-inf")
COPY_COST = 3  # a block that is copied first is read, written and read again


@dataclass(frozen=True)
class Segment:
    """Tokens [start, end) of the step's row belong to this cache; without one they are a whole text, and not kept."""

    cache: SequenceCache | None
    start: int
    end: int

    @property
    def total(self) -> int:
        """Tokens to look at, the new ones included."""
        return (0 if self.cache is None else self.cache.length) + self.end - self.start


class SegmentedAttention:
    """The attention function of one engine. `begin` and `end` stand around each step; one thread uses it."""

    def __init__(self, name: str, pool: BlockPool) -> None:
        self.name = name
        self.pool = pool
        self._step: _Step | None = None

    def register(self) -> None:
        AttentionInterface.register(self.name, self)

    def begin(self, segments: Sequence[Segment], device: torch.device) -> None:
        """Raises PoolFull."""
        for segment in segments:
            if segment.cache is not None:
                self.pool.extend(segment.cache, segment.total)
        decoding = [one for one in segments if one.cache is not None and one.end - one.start == 1]
        end = self.pool.compact([one.cache for one in decoding if one.cache is not None])
        self._step = _Step(segments, _Decoding(decoding, end, device) if decoding else None, device)

    def end(self) -> None:
        assert self._step is not None
        for segment in self._step.segments:
            if segment.cache is not None:
                segment.cache.length = segment.total
        self._step = None

    def drop(self) -> None:
        """The step failed: what it wrote does not count."""
        self._step = None

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
        step = self._step
        assert step is not None
        rules = Rules.of(settings, query)
        layer: Any = module.layer_idx
        keys, values = self.pool.layer(layer, key[0], value[0])
        if step.is_kept:
            step.write(keys, key[0])
            step.write(values, value[0])
        if step.decoding is not None:
            out = step.decoding.attend(query[0], keys, values, rules)
        else:
            out = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
        for segment in step.prompts:
            span = slice(segment.start, segment.end)
            seen_keys, seen_values = key[0, :, span], value[0, :, span]
            if segment.cache is not None and segment.cache.length:
                seen_keys, seen_values = step.seen(segment, keys), step.seen(segment, values)
            out[span] = attend(query[0, :, span], seen_keys, seen_values, rules)
        return out.unsqueeze(0), None


@dataclass(frozen=True)
class Rules:
    """What a layer says about its attention: the factor of its scores, how far back it looks (tokens, itself included),
    the bound of the scores, and a learnt logit per head that takes part in the softmax."""

    scale: float
    window: int | None
    cap: float | None
    sinks: torch.Tensor | None

    @classmethod
    def of(cls, settings: dict[str, Any], query: torch.Tensor) -> Rules:
        """`settings` as transformers gives them."""
        scale = settings.get("scaling") or query.shape[-1] ** -0.5
        return cls(scale, settings.get("sliding_window"), settings.get("softcap"), settings.get("s_aux"))


@dataclass
class _Step:
    """The segments of a step, and where in the pool their new tokens go."""

    segments: Sequence[Segment]
    decoding: _Decoding | None
    device: torch.device
    _places: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def is_kept(self) -> bool:
        """Either every segment has a cache, or the step is one text of which nothing is kept."""
        return self.segments[0].cache is not None

    @cached_property
    def prompts(self) -> list[Segment]:
        return [one for one in self.segments if one.cache is None or one.end - one.start > 1]

    def write(self, pool: torch.Tensor, new: torch.Tensor) -> None:
        """`new` [kv heads, tokens, size] into `pool` [blocks, kv heads, BLOCK, size]."""
        heads, _, size = new.shape
        places = self._places.get(heads)
        if places is None:
            places = self._places[heads] = self._make_places(heads)
        pool.view(-1, size).index_copy_(0, places, new.reshape(-1, size))

    def _make_places(self, heads: int) -> torch.Tensor:
        """For each head and token its row in the pool seen as [blocks * heads * BLOCK, size]."""
        blocks, offsets = [], []
        for one in self.segments:
            assert one.cache is not None
            positions = np.arange(one.cache.length, one.total)
            blocks.append(np.asarray(one.cache.blocks)[positions // BLOCK])
            offsets.append(positions % BLOCK)
        block, offset = np.concatenate(blocks), np.concatenate(offsets)
        rows = (block[None, :] * heads + np.arange(heads)[:, None]) * BLOCK + offset[None, :]
        return torch.from_numpy(rows.reshape(-1)).to(self.device)

    def seen(self, segment: Segment, pool: torch.Tensor) -> torch.Tensor:
        """All that the segment may look at, [kv heads, total, size]."""
        assert segment.cache is not None
        blocks = pool[torch.tensor(segment.cache.blocks, device=self.device)]
        return blocks.transpose(0, 1).flatten(1, 2)[:, : segment.total]


@dataclass(frozen=True)
class _View:
    """The blocks that a layer multiplies: the pool's first `end`, or those that are `picked` from them.

    For each block: the rank of the sequence that owns it among those that decode (one beyond the last for nobody), the
    row of that sequence's query, its place among all blocks of all sequences, and which of its tokens are looked at
    (`mask` [blocks, 1, BLOCK, 1], 0 or -inf).
    """

    end: int
    picked: torch.Tensor | None
    ranks: torch.Tensor
    rows: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor

    def of(self, pool: torch.Tensor) -> torch.Tensor:
        """Its blocks of `pool` as matrices, [blocks * kv heads, BLOCK, size]."""
        blocks = pool[: self.end] if self.picked is None else pool.index_select(0, self.picked)
        return blocks.view(-1, BLOCK, pool.shape[3])


class _Decoding:
    """The sequences of a step that have one new token each, whose keys lie among the pool's blocks [0, end)."""

    def __init__(self, segments: Sequence[Segment], end: int, device: torch.device) -> None:
        self._device = device
        self._count = len(segments)
        blocks = [np.asarray(one.cache.blocks) for one in segments if one.cache is not None]
        self._most = max(len(one) for one in blocks)
        self._starts = np.array([*(one.start for one in segments), 0])
        self._totals = np.array([*(one.total for one in segments), 0])
        self._ranks = np.full(end, self._count)
        self._ranks[np.concatenate(blocks)] = np.repeat(np.arange(self._count), [len(one) for one in blocks])
        self._indexes = np.zeros(end, dtype=np.int64)
        self._indexes[np.concatenate(blocks)] = np.concatenate([np.arange(len(one)) for one in blocks])
        self._rows = self._tensor(self._starts[:-1])
        self._views: dict[int | None, _View] = {}
        self._padded: dict[int, torch.Tensor] = {}

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)

    def _view(self, window: int | None) -> _View:
        found = self._views.get(window)
        if found is None:
            found = self._views[window] = self._make_view(window)
        return found

    def _make_view(self, window: int | None) -> _View:
        positions = self._indexes[:, None] * BLOCK + np.arange(BLOCK)
        totals = self._totals[self._ranks][:, None]
        is_seen = positions < totals
        if window is not None:
            is_seen &= positions >= totals - window
        picked = np.flatnonzero(is_seen.any(1))
        chosen: Any = picked if len(picked) * COPY_COST <= len(is_seen) else slice(None)
        ranks = self._ranks[chosen]
        return _View(
            end=len(is_seen),
            picked=None if isinstance(chosen, slice) else self._tensor(picked),
            ranks=self._tensor(ranks),
            rows=self._tensor(self._starts[ranks]),
            places=self._tensor(ranks * self._most + self._indexes[chosen]),
            mask=self._tensor(np.where(is_seen[chosen], np.float32(0), np.float32(NEVER))[:, None, :, None]),
        )

    def attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rules: Rules) -> torch.Tensor:
        """`query` [heads, tokens, size] -> [tokens, heads, size], of which only the rows of these sequences count."""
        heads, tokens, size = query.shape
        kv_heads = keys.shape[1]
        group = heads // kv_heads
        view = self._view(rules.window)
        asked = query.transpose(0, 1).index_select(0, view.rows).view(-1, group, size)
        scores = torch.bmm(view.of(keys), asked.transpose(1, 2)).view(-1, kv_heads, BLOCK, group)
        scale = rules.scale
        if rules.cap is not None:
            scores, scale = torch.tanh(scores.float() * (scale / rules.cap)), rules.cap
        weights = torch.add(view.mask, scores, alpha=scale)
        tops = self._highest(weights, view, rules.sinks)
        weights.sub_(tops.index_select(0, view.ranks).unsqueeze(2)).exp_()
        parts = torch.bmm(weights.to(values.dtype).view(-1, BLOCK, group).transpose(1, 2), view.of(values))
        sums = weights.new_zeros(self._count + 1, kv_heads, group)
        sums.index_add_(0, view.ranks, weights.sum(2))
        if rules.sinks is not None:
            sums += (rules.sinks.float().view(kv_heads, group) - tops).exp_()
        made = weights.new_zeros(self._count + 1, kv_heads, group, values.shape[3])
        made.index_add_(0, view.ranks, parts.float().view(-1, kv_heads, group, values.shape[3]))
        made = (made / sums.unsqueeze(3))[: self._count].view(self._count, heads, -1).to(query.dtype)
        return query.new_empty(tokens, heads, values.shape[3]).index_copy_(0, self._rows, made)

    def _highest(self, scores: torch.Tensor, view: _View, sinks: torch.Tensor | None) -> torch.Tensor:
        """The highest score of each sequence and head, [sequences + 1, kv heads, group]."""
        of_blocks = scores.amax(2)
        kv_heads, group = of_blocks.shape[1:]
        padded = self._padded.get(kv_heads)
        if padded is None:
            padded = of_blocks.new_full(((self._count + 1) * self._most, kv_heads, group), NEVER)
            self._padded[kv_heads] = padded
        if view.picked is not None:
            padded.fill_(NEVER)  # the layer before may have looked at more
        padded.index_copy_(0, view.places, of_blocks)
        tops = padded.view(self._count + 1, self._most, kv_heads, group).amax(1)
        return tops if sinks is None else torch.maximum(tops, sinks.float().view(kv_heads, group))


def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rules: Rules) -> torch.Tensor:
    """Causal attention of the last tokens of one sequence.

    `query` [heads, new, size], `keys` and `values` [kv heads, all, size]. Returns [new, heads, size].
    """
    heads, new, total = query.shape[0], query.shape[1], keys.shape[1]
    if rules.cap is not None or rules.sinks is not None:
        return _attend_written_out(query, keys, values, rules)
    # A whole prompt at once needs no mask, and what lies above the diagonal is then not computed at all.
    is_whole = new == total and (rules.window is None or total <= rules.window)
    result = functional.scaled_dot_product_attention(
        query[None],
        _repeated(keys, heads)[None],
        _repeated(values, heads)[None],
        attn_mask=None if is_whole else _mask(new, total, rules.window, query.device),
        is_causal=is_whole,
        scale=rules.scale,
    )
    return result[0].transpose(0, 1)


def _attend_written_out(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rules: Rules) -> torch.Tensor:
    heads = query.shape[0]
    scores = query @ _repeated(keys, heads).transpose(1, 2) * rules.scale
    if rules.cap is not None:
        scores = rules.cap * torch.tanh(scores / rules.cap)
    scores = scores.masked_fill(~_mask(query.shape[1], keys.shape[1], rules.window, query.device), NEVER)
    if rules.sinks is not None:
        scores = torch.cat([scores, rules.sinks.view(-1, 1, 1).expand(-1, scores.shape[1], 1)], dim=-1)
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
