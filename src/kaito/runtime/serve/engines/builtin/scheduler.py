"""Which tokens run in the next step.

Every sequence that decodes gets its one token in every step; a part of the step's budget goes to prompts, first come
first served, a chunk at a time, so that a long prompt slows the others a little and never stops them. A sequence
is let in only when the KV memory that it may need at most is free: nothing is ever thrown out half-way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kaito.runtime.serve.engines.base import Generation, Token
from kaito.runtime.serve.engines.builtin.kv import BLOCK, BlockPool, SequenceCache, blocks_for
from kaito.runtime.serve.engines.builtin.lora import Adapter
from kaito.runtime.serve.engines.builtin.sampling import Sampler

MIN_SHARED = 16  # tokens; a shorter common beginning is not worth a copy


@dataclass
class Sequence:
    """A generation in flight. `done` counts prompt tokens whose keys are there; `pending` is the token to feed next."""

    generation: Generation
    adapter: Adapter | None
    sampler: Sampler
    sink: Callable[[Token | BaseException], None]
    cache: SequenceCache = field(default_factory=SequenceCache)
    done: int = 0
    pending: int | None = None
    tokens: list[int] = field(default_factory=list)

    @property
    def blocks_left(self) -> int:
        """Blocks that this may still take."""
        most = blocks_for(len(self.generation.prompt) + self.generation.sampling.max_tokens)
        return most - len(self.cache.blocks)

    @property
    def prompt_left(self) -> int:
        return len(self.generation.prompt) - self.done


@dataclass(frozen=True)
class Share:
    """What one sequence runs in this step; `has_result` when its next token comes out of it."""

    sequence: Sequence
    tokens: tuple[int, ...]
    position: int
    has_result: bool


@dataclass(frozen=True)
class Limits:
    """`step_tokens`: of one step, at least `prompt_tokens_beside` of it for prompts while others decode."""

    max_running: int = 32
    max_waiting: int = 64
    step_tokens: int = 1024
    prompt_tokens_beside: int = 128
    kept_prefixes: int = 32


class Prefixes:
    """Caches of sequences that ended, kept while there is room, so that the next prompt that begins alike skips ahead.

    Keyed by the adapter too: keys and values depend on its weights. Least recently used goes first.
    """

    def __init__(self, limit: int, pool: BlockPool) -> None:
        self._limit = limit
        self._pool = pool
        self._kept: OrderedDict[tuple[int, tuple[int, ...]], tuple[Adapter | None, SequenceCache]] = OrderedDict()
        self.queries = 0
        self.hits = 0

    def keep(self, adapter: Adapter | None, tokens: tuple[int, ...], cache: SequenceCache) -> None:
        """Takes `cache` over, or gives its blocks back."""
        tokens = tokens[: cache.length]
        key = (id(adapter), tokens)
        if len(tokens) < MIN_SHARED or self._limit == 0 or key in self._kept:
            self._pool.release(cache)
            return
        self._kept[key] = (adapter, cache)
        while len(self._kept) > self._limit:
            self.drop_oldest()

    def find(self, adapter: Adapter | None, prompt: tuple[int, ...]) -> tuple[SequenceCache, int] | None:
        """The cache with the longest kept beginning of `prompt`, and how many tokens of it: short of the last one,
        whose logits are needed."""
        best, best_key = 0, None
        for key, (owner, _) in self._kept.items():
            if owner is adapter:
                length = common_length(key[1], prompt[:-1])
                if length > best:
                    best, best_key = length, key
        if best_key is None or best < MIN_SHARED:
            return None
        self._kept.move_to_end(best_key)
        return self._kept[best_key][1], best

    def drop_oldest(self) -> None:
        self._drop(next(iter(self._kept)))

    def drop_adapter(self, adapter: Adapter) -> None:
        for key in [key for key, (owner, _) in self._kept.items() if owner is adapter]:
            self._drop(key)

    def _drop(self, key: tuple[int, tuple[int, ...]]) -> None:
        _, cache = self._kept.pop(key)
        self._pool.release(cache)

    def __len__(self) -> int:
        return len(self._kept)


class Scheduler:
    """Waiting and running sequences. Not thread-safe: it belongs to the engine's worker thread."""

    def __init__(self, limits: Limits, pool: BlockPool) -> None:
        self.limits = limits
        self._pool = pool
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.prefixes = Prefixes(limits.kept_prefixes, pool)

    @property
    def kv_usage(self) -> float:
        return (self._pool.used + self._promised) / self._pool.blocks

    @property
    def kv_tokens(self) -> int:
        """Tokens that all sequences and kept prefixes have room for together."""
        return self._pool.blocks * BLOCK

    @property
    def _promised(self) -> int:
        """Blocks that the running sequences may still take."""
        return sum(sequence.blocks_left for sequence in self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def admit(self) -> None:
        """Let waiting sequences in, in order, while there is room for all that they may need."""
        while self.waiting and len(self.running) < self.limits.max_running:
            sequence = self.waiting[0]
            prompt = sequence.generation.prompt
            found = self.prefixes.find(sequence.adapter, prompt)
            shared = found[1] // BLOCK if found else 0
            if not self._make_room(sequence.blocks_left - shared, keep=1 if found else 0):
                if not found or not self._make_room(sequence.blocks_left, keep=0):
                    return
                found = None
            self.waiting.popleft()
            self.running.append(sequence)
            self.prefixes.queries += len(prompt)
            if found is not None:
                sequence.cache = self._pool.share(*found)
                sequence.done = sequence.cache.length
                self.prefixes.hits += sequence.done

    def _make_room(self, blocks: int, keep: int) -> bool:
        """Whether `blocks` more can be promised, once all kept prefixes but the last `keep` may go."""
        while self._pool.used + self._promised + blocks > self._pool.blocks:
            if len(self.prefixes) <= keep:
                return False
            self.prefixes.drop_oldest()
        return True

    def plan(self) -> list[Share]:
        """The next step, sequences of one adapter side by side; empty when there is nothing to run."""
        self.admit()
        shares = [Share(one, (one.pending,), one.cache.length, True) for one in self.running if one.pending is not None]
        left = self._prompt_tokens(decoding=len(shares))
        for sequence in self.running:
            if left <= 0:
                break
            if sequence.pending is None:
                chunk = sequence.generation.prompt[sequence.done : sequence.done + left]
                shares.append(Share(sequence, chunk, sequence.done, len(chunk) == sequence.prompt_left))
                left -= len(chunk)
        return sorted(shares, key=lambda share: id(share.sequence.adapter))

    def _prompt_tokens(self, decoding: int) -> int:
        """Prompt tokens of the next step. The more of the sequences wait for their first token, the more of the step is
        theirs; those that decode wait longer for their next one meanwhile."""
        reading = len(self.running) - decoding
        share = self.limits.step_tokens * reading // max(1, len(self.running))
        return min(self.limits.step_tokens - decoding, max(self.limits.prompt_tokens_beside, share))

    def remove(self, sequence: Sequence) -> None:
        """The sequence ended or was cancelled; what it held is free, and its beginning is kept for others."""
        if sequence in self.running:
            self.running.remove(sequence)
            self.prefixes.keep(sequence.adapter, (*sequence.generation.prompt, *sequence.tokens), sequence.cache)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def all(self) -> Iterable[Sequence]:
        return [*self.running, *self.waiting]


def common_length(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Length of the common beginning, by halving: comparing slices runs in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
