"""The pool of keys and values: every sequence finds its own, whatever others take, share or give back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.serve.engines.builtin.kv import BLOCK, BlockPool, PoolFull, SequenceCache, blocks_for

LAYERS, HEADS, SIZE = 2, 3, 4
BLOCKS = 12
LIKE = torch.empty(HEADS, 1, SIZE)


def pool_of(blocks: int) -> BlockPool:
    pool = BlockPool(1)
    for layer in range(LAYERS):
        pool.layer(layer, LIKE, LIKE)
    pool.resize(blocks)
    return pool


def write(pool: BlockPool, cache: SequenceCache, value: int, length: int) -> None:
    """Tokens from the cache's length to `length`, as a step would."""
    pool.extend(cache, length)
    new = torch.full((HEADS, length - cache.length, SIZE), float(value))
    for layer in range(LAYERS):
        pool.write(cache, layer, new + layer, -new)
    cache.length = length


def read(pool: BlockPool, cache: SequenceCache) -> list[float]:
    for layer in range(LAYERS):
        keys, values = pool.read(cache, cache.length, layer)
        assert keys.shape == values.shape == (HEADS, cache.length, SIZE)
        assert torch.equal(keys - layer, -values)
        assert bool((values == values[:1, :, :1]).all())
    return [-float(value) for value in values[0, :, 0]]


@given(st.data())
def test_each_sequence_keeps_what_it_wrote(data: st.DataObject) -> None:
    pool = pool_of(BLOCKS)
    expected: list[tuple[SequenceCache, list[float]]] = []
    for number in range(data.draw(st.integers(1, 12))):
        action = data.draw(st.sampled_from(["write", "more", "share", "release"]))
        chosen = data.draw(st.sampled_from(expected)) if expected and action != "write" else None
        try:
            if action == "write":
                cache, length = SequenceCache(), data.draw(st.integers(1, 3 * BLOCK))
                write(pool, cache, number, length)
                expected.append((cache, [float(number)] * length))
            elif chosen and action == "more":
                more = data.draw(st.integers(1, BLOCK + 1))
                write(pool, chosen[0], number, chosen[0].length + more)
                chosen[1].extend([float(number)] * more)
            elif chosen and action == "share":
                length = data.draw(st.integers(1, chosen[0].length))
                before = pool.used
                expected.append((pool.share(chosen[0], length), chosen[1][:length]))
                assert pool.used - before == (1 if length % BLOCK else 0)
            elif chosen and action == "release":
                pool.release(chosen[0])
                expected.remove(chosen)
        except PoolFull:
            break
        assert pool.used == len({block for cache, _ in expected for block in cache.blocks})
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
    keys, values = pool.layer(0, LIKE, LIKE)
    for tensor in (keys, values):
        tensor.fill_(float("nan"))
    cache = SequenceCache()
    pool.extend(cache, BLOCK + 1)
    assert bool((keys[cache.blocks[-1]] == 0).all())
    assert bool((values[cache.blocks[-1]] == 0).all())


def test_blocks_for() -> None:
    assert [blocks_for(tokens) for tokens in (0, 1, BLOCK, BLOCK + 1)] == [0, 1, 1, 2]
