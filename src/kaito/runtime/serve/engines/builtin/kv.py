"""Keys and values of the sequences in flight: one bounded pool of blocks for all of them.

A sequence owns whole blocks and takes one more when its last is full, so that no sequence is padded to another's length
and the memory never grows. The blocks of the sequences that decode are kept together at the pool's beginning: a step
then multiplies them where they lie, whatever the sequences' lengths, and nothing is gathered first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

BLOCK = 32  # tokens; larger ones waste more at a sequence's end, smaller ones cost more in every step
SLACK = 0.25  # part of the blocks in use that may lie between them unused, before blocks are moved together


class PoolFull(RuntimeError):
    """More blocks were asked for than there are; whoever lets sequences in counts them first."""


@dataclass(eq=False)
class SequenceCache:
    """Where one sequence's keys and values are. `length` counts the tokens of which every layer has them."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK)


class BlockPool:
    """For each layer keys and values [blocks, kv heads, BLOCK, head size]; one block's number is the same in all.

    A layer's tensors are made when its first keys come. On a CPU the system gives their memory when it is written, so
    that a large pool costs what is used of it.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._tensors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._fresh = 0  # blocks from here on were never taken
        self._returned: list[int] = []  # a heap
        self._owners: dict[int, SequenceCache] = {}

    @property
    def used(self) -> int:
        return len(self._owners)

    @property
    def bytes_per_token(self) -> int:
        return sum(one.shape[1] * one.shape[3] * one.element_size() for pair in self._tensors.values() for one in pair)

    def resize(self, blocks: int) -> None:
        """Start again with another number of blocks; what was in them is gone."""
        made = BlockPool(blocks)
        for layer, pair in self._tensors.items():
            keys, values = (one.new_empty(blocks, *one.shape[1:]) for one in pair)
            made._tensors[layer] = keys, values
        self.__dict__.update(made.__dict__)

    def layer(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's tensors; `key` and `value` [kv heads, any, size] say what they look like."""
        found = self._tensors.get(layer)
        if found is None:
            # Zeros, because blocks that were taken before there was a tensor could not be cleared.
            keys, values = (one.new_zeros(self.blocks, one.shape[0], BLOCK, one.shape[2]) for one in (key, value))
            found = self._tensors[layer] = keys, values
        return found

    def extend(self, cache: SequenceCache, length: int) -> None:
        """Give `cache` room for `length` tokens. Raises PoolFull."""
        count = blocks_for(length) - len(cache.blocks)
        if count <= 0:
            return
        for _ in range(count):
            block = self._take()
            self._owners[block] = cache
            cache.blocks.append(block)
        # The places behind the last token are multiplied with a weight of zero, which only a number survives.
        self._clear(cache.blocks[-1], 0)

    def _take(self) -> int:
        if self._returned:
            return heapq.heappop(self._returned)
        if self._fresh == self.blocks:
            raise PoolFull(f"all {self.blocks} blocks of keys and values are taken")
        self._fresh += 1
        return self._fresh - 1

    def release(self, cache: SequenceCache) -> None:
        for block in cache.blocks:
            del self._owners[block]
            heapq.heappush(self._returned, block)
        cache.blocks, cache.length = [], 0

    def copy(self, cache: SequenceCache, length: int) -> SequenceCache:
        """The first `length` tokens again, for another sequence that begins alike. Raises PoolFull."""
        made = SequenceCache()
        self.extend(made, length)
        sources = torch.tensor(cache.blocks[: len(made.blocks)])
        targets = torch.tensor(made.blocks)
        for tensor in self._all():
            tensor[targets.to(tensor.device)] = tensor[sources.to(tensor.device)]
        if length % BLOCK:
            self._clear(made.blocks[-1], length % BLOCK)
        made.length = length
        return made

    def _clear(self, block: int, start: int) -> None:
        for tensor in self._all():
            tensor[block, :, start:] = 0

    def compact(self, caches: Sequence[SequenceCache]) -> int:
        """Move the blocks of `caches` towards the beginning where too many others lie between them; returns the end of
        the part that holds them all."""
        count = sum(len(cache.blocks) for cache in caches)
        end = max((max(cache.blocks) for cache in caches if cache.blocks), default=-1) + 1
        if end <= count + max(1, int(count * SLACK)):
            return end
        inside = {block for cache in caches for block in cache.blocks if block < count}
        self._exchange(
            [(block, cache) for cache in caches for block in cache.blocks if block >= count],
            [block for block in range(count) if block not in inside],
        )
        return count

    def _exchange(self, high: Sequence[tuple[int, SequenceCache]], low: Sequence[int]) -> None:
        """Each block of `high` and the one of `low` beside it trade places, contents and owners."""
        sources, targets = torch.tensor([block for block, _ in high]), torch.tensor(low)
        for tensor in self._all():
            here, there = sources.to(tensor.device), targets.to(tensor.device)
            tensor[here], tensor[there] = tensor[there], tensor[here]
        for (block, cache), place in zip(high, low, strict=True):
            other = self._owners.pop(place, None)
            cache.blocks[cache.blocks.index(block)] = place
            self._owners[place] = cache
            if other is None:
                del self._owners[block]
            else:
                other.blocks[other.blocks.index(place)] = block
                self._owners[block] = other
        self._returned = [block for block in range(self._fresh) if block not in self._owners]

    def _all(self) -> Iterable[torch.Tensor]:
        for keys, values in self._tensors.values():
            yield keys
            yield values
