"""Attention over sequences that share a step, through transformers' own attention interface.

A step runs the tokens of several sequences in one row: `[1, tokens]`. Linear layers do not care, so nothing is padded;
only attention has to keep the sequences apart, and it is the one thing that is replaced here. Sequences that decode,
one token each, are taken together, whatever their lengths: see `_Decoding`. Pieces of prompts are taken one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface

from kaito.runtime.serve.engines.builtin.kv import BLOCK, BlockPool, SequenceCache

NEVER = float("-inf")


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
        self._step = _Step(segments, _Decoding(decoding, device) if decoding else None)

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
        out = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
        if step.decoding is not None:
            keys, values = self.pool.layer(layer, key[0], value[0])
            step.decoding.write(keys, values, key[0], value[0])
            step.decoding.attend(query[0], keys, values, rules, out)
        for segment in step.prompts:
            span = slice(segment.start, segment.end)
            new_keys, new_values = key[0, :, span], value[0, :, span]
            if segment.cache is not None:
                self.pool.write(segment.cache, layer, new_keys, new_values)
                if segment.cache.length:
                    new_keys, new_values = self.pool.read(segment.cache, segment.total, layer)
            out[span] = attend(query[0, :, span], new_keys, new_values, rules)
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
    segments: Sequence[Segment]
    decoding: _Decoding | None

    @cached_property
    def prompts(self) -> list[Segment]:
        return [one for one in self.segments if one.cache is None or one.end - one.start > 1]


@dataclass(frozen=True)
class _View:
    """Which blocks a layer looks at. Its rows go by sequence, head and block.

    `owners` [rows]: the sequence's head, counted through. `key_rows` [rows * size] and `value_rows` [rows * BLOCK]:
    rows of the pool's tensors, seen as matrices; `key_starts` and `value_starts` say where those of a row, and of a
    head, begin. `mask` [rows, BLOCK] is 0 for a token that is looked at, else -inf. `places` [rows] in a table of
    `most` columns, one line for each head.
    """

    owners: torch.Tensor
    key_rows: torch.Tensor
    key_starts: torch.Tensor
    value_rows: torch.Tensor
    value_starts: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor
    most: int


class _Decoding:
    """The sequences of a step that have one new token each.

    The scores of a block's tokens are the sum of its keys' rows, each times a number of the query; what comes out is
    the sum of the values' rows, each times a weight. Sums of weighted rows, wherever they lie, are what an embedding
    bag is: one call for all scores and one for all results, which read keys and values once, where they are. Between
    them stands one softmax over each head's row of blocks, in float32.
    """

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        self._device = device
        self._caches = [one.cache for one in segments if one.cache is not None]
        self._totals = np.array([one.total for one in segments])
        self._rows = self._tensor(np.array([one.start for one in segments]))
        self._views: dict[tuple[int | None, int, int, int], _View] = {}
        self._places: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)

    def write(self, keys: torch.Tensor, values: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """The new tokens' `key` and `value` [kv heads, tokens, size] into the layer's tensors."""
        heads, size = key.shape[0], key.shape[2]
        places = self._places.get((heads, size))
        if places is None:
            places = self._places[heads, size] = self._make_places(heads, size)
        new_keys = key.transpose(0, 1).index_select(0, self._rows)
        new_values = value.transpose(0, 1).index_select(0, self._rows)
        keys.view(-1).index_copy_(0, places[0], new_keys.view(-1))
        values.view(-1, value.shape[2]).index_copy_(0, places[1], new_values.view(-1, value.shape[2]))

    def _make_places(self, heads: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each number of the new keys, and each row of the new values, goes."""
        last = self._totals - 1
        blocks = np.array([cache.blocks[place // BLOCK] for cache, place in zip(self._caches, last, strict=True)])
        offsets = last % BLOCK
        rows = blocks[:, None] * heads + np.arange(heads)
        numbers = (rows[:, :, None] * size + np.arange(size)) * BLOCK + offsets[:, None, None]
        return self._tensor(numbers.reshape(-1)), self._tensor((rows * BLOCK + offsets[:, None]).reshape(-1))

    def _view(self, window: int | None, kv_heads: int, heads: int, size: int) -> _View:
        found = self._views.get((window, kv_heads, heads, size))
        if found is None:
            found = self._views[window, kv_heads, heads, size] = self._make_view(window, kv_heads, heads, size)
        return found

    def _make_view(self, window: int | None, kv_heads: int, heads: int, size: int) -> _View:
        least = np.maximum(self._totals - window, 0) if window else np.zeros_like(self._totals)
        firsts = least // BLOCK
        counts = (self._totals + BLOCK - 1) // BLOCK - firsts  # blocks of each sequence
        spans = zip(self._caches, firsts, counts, strict=True)
        blocks = np.concatenate([np.asarray(cache.blocks[first : first + count]) for cache, first, count in spans])
        of_heads = np.repeat(counts, heads)
        ends = np.cumsum(of_heads)
        owners = np.repeat(np.arange(len(of_heads)), of_heads)
        columns = np.arange(len(owners)) - (ends - of_heads)[owners]
        sequences, of_sequence = owners // heads, owners % heads
        block = blocks[(np.cumsum(counts) - counts)[sequences] + columns]
        rows = self._tensor(block * kv_heads + of_sequence // (heads // kv_heads))[:, None]
        positions = (firsts[sequences] + columns)[:, None] * BLOCK + np.arange(BLOCK)
        is_seen = (positions < self._totals[sequences][:, None]) & (positions >= least[sequences][:, None])
        most = int(counts.max())
        return _View(
            owners=self._tensor(owners),
            key_rows=(rows * size + torch.arange(size, device=self._device)).view(-1),
            key_starts=torch.arange(len(owners), device=self._device) * size,
            value_rows=(rows * BLOCK + torch.arange(BLOCK, device=self._device)).view(-1),
            value_starts=self._tensor((ends - of_heads) * BLOCK),
            mask=self._tensor(np.where(is_seen, np.float32(0), np.float32(NEVER))),
            places=self._tensor(owners * most + columns),
            most=most,
        )

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rules: Rules, out: torch.Tensor
    ) -> None:
        """Of `query` [heads, tokens, size] the rows of these sequences, into those of `out` [tokens, heads, size]."""
        heads, _, size = query.shape
        view = self._view(rules.window, keys.shape[1], heads, size)
        asked = query.transpose(0, 1).index_select(0, self._rows).view(-1, size).index_select(0, view.owners)
        scores = _weighted_sums(keys.view(-1, BLOCK), view.key_rows, view.key_starts, asked)
        scale = rules.scale
        if rules.cap is not None:
            scores, scale = torch.tanh(scores.float() * (scale / rules.cap)), rules.cap
        weights = self._softmax(torch.add(view.mask, scores, alpha=scale), view, rules.sinks)
        made = _weighted_sums(
            values.view(-1, values.shape[3]), view.value_rows, view.value_starts, weights.to(values.dtype)
        )
        out.index_copy_(0, self._rows, made.view(-1, heads, values.shape[3]))

    def _softmax(self, scores: torch.Tensor, view: _View, sinks: torch.Tensor | None) -> torch.Tensor:
        """Over all rows of each head, in place; `scores` [rows, BLOCK], float32. `sinks` [heads] take part."""
        count = len(view.value_starts)
        table = scores.new_full((count * view.most,), NEVER)
        tops = table.index_copy_(0, view.places, scores.amax(1)).view(count, view.most).amax(1)
        sink = None if sinks is None else sinks.float().repeat(count // len(sinks))
        if sink is not None:
            tops = torch.maximum(tops, sink)
        weights = scores.sub_(tops.index_select(0, view.owners).unsqueeze(1)).exp_()
        sums = scores.new_zeros(count).index_add_(0, view.owners, weights.sum(1))
        if sink is not None:
            sums += (sink - tops).exp_()
        return weights.div_(sums.index_select(0, view.owners).unsqueeze(1))


def _weighted_sums(
    table: torch.Tensor, rows: torch.Tensor, starts: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """For each part of `rows`, which begin at `starts`: the sum of these rows of `table`, each times its weight."""
    return functional.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights.view(-1))


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
