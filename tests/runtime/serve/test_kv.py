"""The pool of keys and values: every sequence finds its own, whatever others take, give back or move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.serve.engines.builtin.kv import BLOCK, SLACK, BlockPool, PoolFull, SequenceCache, blocks_for

LAYERS, HEADS, SIZE = 2, 3, 4
BLOCKS = 12


def pool_of(blocks: int) -> BlockPool:
    pool = BlockPool(1)
    like = torch.empty(HEADS, 1, SIZE)
    for layer in range(LAYERS):
        pool.layer(layer, like, like)
    pool.resize(blocks)
    return pool


def write(pool: BlockPool, cache: SequenceCache, value: float, length: int) -> None:
    """`value` for the tokens from the cache's length to `length`, as a step would."""
    pool.extend(cache, length)
    like = torch.empty(HEADS, 1, SIZE)
    for layer in range(LAYERS):
        for tensor in pool.layer(layer, like, like):
            for place in range(cache.length, length):
                tensor[cache.blocks[place // BLOCK], :, place % BLOCK] = value
    cache.length = length


def read(pool: BlockPool, cache: SequenceCache) -> list[float]:
    like = torch.empty(HEADS, 1, SIZE)
    tensors = [tensor for layer in range(LAYERS) for tensor in pool.layer(layer, like, like)]
    found = [tensor[cache.blocks].transpose(1, 2).reshape(-1, HEADS * SIZE)[: cache.length] for tensor in tensors]
    assert all(torch.equal(one, found[0]) for one in found)
    assert bool((found[0] == found[0][:, :1]).all())
    return [float(value) for value in found[0][:, 0]]


@given(st.data())
def test_each_sequence_keeps_what_it_wrote(data: st.DataObject) -> None:
    pool = pool_of(BLOCKS)
    expected: list[tuple[SequenceCache, list[float]]] = []
    for number in range(data.draw(st.integers(1, 12))):
        action = data.draw(st.sampled_from(["write", "more", "copy", "release", "compact"]))
        chosen = data.draw(st.sampled_from(expected)) if expected and action != "write" else None
        try:
            if action == "write":
                cache, length = SequenceCache(), data.draw(st.integers(1, 3 * BLOCK))
                write(pool, cache, number, length)
                expected.append((cache, [number] * length))
            elif chosen and action == "more":
                more = data.draw(st.integers(1, BLOCK + 1))
                write(pool, chosen[0], number, chosen[0].length + more)
                chosen[1].extend([number] * more)
            elif chosen and action == "copy":
                length = data.draw(st.integers(1, chosen[0].length))
                expected.append((pool.copy(chosen[0], length), chosen[1][:length]))
            elif chosen and action == "release":
                pool.release(chosen[0])
                expected.remove(chosen)
            elif action == "compact":
                some = [cache for cache, _ in expected if data.draw(st.booleans())]
                count = sum(len(cache.blocks) for cache in some)
                end = pool.compact(some)
                assert all(block < end for cache in some for block in cache.blocks)
                assert end <= count + max(1, int(count * SLACK))
        except PoolFull:
            break
        taken = [block for cache, _ in expected for block in cache.blocks]
        assert len(taken) == len(set(taken)) == pool.used
        for cache, values in expected:
            assert read(pool, cache) == values


def test_the_pool_is_bounded_and_blocks_come_back() -> None:
    pool = pool_of(2)
    first, second = SequenceCache(), SequenceCache()
    pool.extend(first, 2 * BLOCK)
    with pytest.raises(PoolFull, match="all 2 blocks"):
        pool.extend(second, 1)
    pool.release(first)
    pool.extend(second, BLOCK + 1)
    assert pool.used == len(second.blocks) == 2


def test_places_behind_the_last_token_are_numbers() -> None:
    """They are multiplied with zero, and zero times what is no number is none."""
    pool = pool_of(2)
    like = torch.empty(HEADS, 1, SIZE)
    keys, _ = pool.layer(0, like, like)
    keys.fill_(float("nan"))
    cache = SequenceCache()
    pool.extend(cache, BLOCK + 1)
    assert bool((keys[cache.blocks[-1]] == 0).all())


def test_blocks_for() -> None:
    assert [blocks_for(tokens) for tokens in (0, 1, BLOCK, BLOCK + 1)] == [0, 1, 1, 2]
