"""The token bucket, on a clock that the test turns."""

from __future__ import annotations

import asyncio

import pytest

from kaito.kube.limit import RateLimit


@pytest.mark.looptime(start=100)
async def test_a_burst_goes_at_once_and_the_rest_by_the_rate() -> None:
    limit, loop = RateLimit(10, 5), asyncio.get_running_loop()
    began = loop.time()
    ended = []

    async def one() -> None:
        await limit.take()
        ended.append(round(loop.time() - began, 3))

    await asyncio.gather(*(one() for _ in range(8)))
    assert ended == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]


@pytest.mark.looptime
async def test_tokens_come_back_with_time_up_to_the_burst() -> None:
    limit, loop = RateLimit(10, 2), asyncio.get_running_loop()
    for _ in range(2):
        await limit.take()
    await asyncio.sleep(60)
    began = loop.time()
    for _ in range(3):
        await limit.take()
    assert round(loop.time() - began, 3) == 0.1


@pytest.mark.looptime
async def test_no_rate_is_no_limit() -> None:
    limit, loop = RateLimit(0, 0), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(1000):
        await limit.take()
    assert loop.time() == began
