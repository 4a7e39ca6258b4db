"""Keys and values of the sequences in flight: one bounded pool of blocks for all of them.

A sequence owns whole blocks and takes one more when its last is full, so that no sequence is padded to another's length
and the memory never grows. Sequences that begin alike share the blocks of their beginning.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

BLOCK = 64  # tokens; larger ones waste more at a sequence's end, smaller ones cost more in every step


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
    """For each layer keys [blocks, kv heads, head size, BLOCK] and values [blocks, kv heads, BLOCK, head size].

    So a row of either is what one number is multiplied with: the keys' row of a dimension with the query's number, the
    values' row of a token with its weight. A block has the same number in all layers. A layer's tensors are made when
    its first keys come. On a CPU the system gives their memory when it is written: a large pool costs what is used.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._tensors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._fresh = 0  # blocks from here on were never taken
        self._returned: list[int] = []  # a heap
        self._holders: dict[int, int] = {}  # block -> how many sequences have it

    @property
    def used(self) -> int:
        return len(self._holders)

    @property
    def bytes_per_token(self) -> int:
        tensors = [one for pair in self._tensors.values() for one in pair]
        return sum(one[0].numel() * one.element_size() for one in tensors) // BLOCK

    def resize(self, blocks: int) -> None:
        """Start again with another number of blocks; what was in them is gone."""
        for layer, (keys, values) in self._tensors.items():
            made = keys.new_empty(blocks, *keys.shape[1:]), values.new_empty(blocks, *values.shape[1:])
            self._tensors[layer] = made
        self.blocks, self._fresh, self._returned, self._holders = blocks, 0, [], {}

    def layer(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's tensors; `key` and `value` [kv heads, any, size] say what they look like."""
        found = self._tensors.get(layer)
        if found is None:
            # Zeros, because blocks that were taken before there was a tensor could not be cleared.
            keys = key.new_zeros(self.blocks, key.shape[0], key.shape[2], BLOCK)
            values = value.new_zeros(self.blocks, value.shape[0], BLOCK, value.shape[2])
            found = self._tensors[layer] = keys, values
        return found

    def extend(self, cache: SequenceCache, length: int) -> None:
        """Give `cache` room for `length` tokens. Raises PoolFull."""
        count = blocks_for(length) - len(cache.blocks)
        if count <= 0:
            return
        for _ in range(count):
            cache.blocks.append(self._take())
        # The places behind the last token are multiplied with a weight of zero, which only a number survives.
        for keys, values in self._tensors.values():
            keys[cache.blocks[-1]] = 0
            values[cache.blocks[-1]] = 0

    def _take(self) -> int:
        if self._returned:
            block = heapq.heappop(self._returned)
        elif self._fresh < self.blocks:
            block = self._fresh
            self._fresh += 1
        else:
            raise PoolFull(f"all {self.blocks} blocks of keys and values are taken")
        self._holders[block] = 1
        return block

    def release(self, cache: SequenceCache) -> None:
        for block in cache.blocks:
            self._holders[block] -= 1
            if not self._holders[block]:
                del self._holders[block]
                heapq.heappush(self._returned, block)
        cache.blocks, cache.length = [], 0

    def share(self, cache: SequenceCache, length: int) -> SequenceCache:
        """The first `length` tokens for another sequence too: full blocks are shared, the rest is copied. Raises
        PoolFull."""
        made = SequenceCache(cache.blocks[: length // BLOCK], length)
        for block in made.blocks:
            self._holders[block] += 1
        rest = length % BLOCK
        if rest:
            self.extend(made, length)
            source, target = cache.blocks[length // BLOCK], made.blocks[-1]
            for keys, values in self._tensors.values():
                keys[target, :, :, :rest] = keys[source, :, :, :rest]
                values[target, :, :rest] = values[source, :, :rest]
        return made

    def write(self, cache: SequenceCache, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """`key` and `value` [kv heads, tokens, size] of the tokens behind the cache's, for which there is room."""
        keys, values = self.layer(layer, key, value)
        for block, place, piece in _pieces(cache, key.shape[1]):
            end = place + piece.stop - piece.start
            keys[block, :, :, place:end] = key[:, piece].transpose(1, 2)
            values[block, :, place:end] = value[:, piece]

    def read(self, cache: SequenceCache, length: int, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the first `length` tokens, copied together: [kv heads, length, size] each."""
        keys, values = self._tensors[layer]
        blocks = torch.tensor(cache.blocks[: blocks_for(length)], device=keys.device)
        together = keys[blocks].permute(1, 0, 3, 2).flatten(1, 2), values[blocks].transpose(0, 1).flatten(1, 2)
        return together[0][:, :length], together[1][:, :length]


def _pieces(cache: SequenceCache, count: int) -> Iterator[tuple[int, int, slice]]:
    """Which blocks take the next `count` tokens: the block, the first place in it, and which of the tokens."""
    done = 0
    while done < count:
        place = (cache.length + done) % BLOCK
        size = min(BLOCK - place, count - done)
        yield cache.blocks[(cache.length + done) // BLOCK], place, slice(done, done + size)
        done += size
