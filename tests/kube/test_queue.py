from __future__ import annotations

import asyncio
from collections import Counter

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.kube.queue import LAST_BACKOFF, WorkQueue


async def take_soon(queue: WorkQueue) -> str | None:
    """The next key, or None when there is none now."""
    try:
        async with asyncio.timeout(0.001):
            return await queue.take()
    except TimeoutError:
        return None


@pytest.mark.looptime
async def test_a_key_is_queued_once() -> None:
    queue = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.take(), await queue.take()] == ["a", "b"]
    assert await take_soon(queue) is None


@pytest.mark.looptime
async def test_a_key_that_is_added_in_work_comes_back_when_it_is_done() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert await queue.take() == "a"
    queue.add("a")
    assert await take_soon(queue) is None
    assert not queue.is_idle
    queue.done("a")
    assert await queue.take() == "a"
    queue.done("a")
    assert queue.is_idle


@pytest.mark.looptime
async def test_a_key_comes_after_its_time(looptime: looptime.LoopTimeProxy) -> None:
    queue = WorkQueue()
    queue.add_after("a", 5)
    assert await queue.take() == "a"
    assert looptime == 5


@pytest.mark.parametrize(("delays", "expected"), [((5, 2), 2), ((2, 5), 2), ((0, 5), 0), ((-1,), 0)])
@pytest.mark.looptime
async def test_the_earlier_timer_stands(
    delays: tuple[float, ...], expected: float, looptime: looptime.LoopTimeProxy
) -> None:
    queue = WorkQueue()
    for delay in delays:
        queue.add_after("a", delay)
    await queue.take()
    assert looptime == expected


@pytest.mark.looptime
async def test_back_off_grows_and_is_forgotten() -> None:
    queue = WorkQueue()
    waits = [queue.add_after_failure("a") for _ in range(12)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == LAST_BACKOFF
    assert queue.add_after_failure("b") == 0.1
    queue.forget("a")
    assert queue.add_after_failure("a") == 0.1
    queue.close()


@pytest.mark.looptime
async def test_after_close_no_timer_fires() -> None:
    queue = WorkQueue()
    queue.add_after("a", 1)
    queue.close()
    await asyncio.sleep(2)
    assert queue.is_idle


keys = st.sampled_from("abc")
steps = st.lists(st.tuples(keys, st.floats(0, 3), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(1, 4), st.lists(st.floats(0, 2), min_size=1, max_size=8))
def test_no_key_is_ever_in_two_hands_and_every_add_is_followed_by_work(
    steps: list[tuple[str, float, bool]], workers: int, durations: list[float]
) -> None:
    """Keys are added at times, at once or by a timer; workers take as long as they take."""

    async def run() -> None:
        queue, in_work = WorkQueue(), Counter[str]()
        last_add: dict[str, float] = {}
        last_start: dict[str, float] = {}
        loop = asyncio.get_running_loop()

        async def work(number: int) -> None:
            turn = number
            while True:
                key = await queue.take()
                last_start[key] = loop.time()
                in_work[key] += 1
                assert in_work[key] == 1
                await asyncio.sleep(durations[turn % len(durations)])
                turn += workers
                in_work[key] -= 1
                queue.done(key)

        hands = [asyncio.create_task(work(number)) for number in range(workers)]
        for key, pause, by_timer in steps:
            if by_timer:
                queue.add_after(key, 0.5)
                last_add[key] = max(last_add.get(key, 0), loop.time())
            else:
                queue.add(key)
                last_add[key] = loop.time()
            await asyncio.sleep(pause)
        await asyncio.sleep(1000)
        assert queue.is_idle
        for key, added in last_add.items():
            assert last_start[key] >= added
        for hand in hands:
            assert not hand.done() or hand.exception() is None
            hand.cancel()
        await asyncio.gather(*hands, return_exceptions=True)

    with looptime_loop() as loop:
        loop.run_until_complete(run())


class looptime_loop:
    """A new event loop with a clock that jumps: hypothesis runs many of them within one test."""

    def __enter__(self) -> asyncio.AbstractEventLoop:
        self._loop = looptime.new_event_loop()
        return self._loop

    def __exit__(self, *_: object) -> None:
        self._loop.close()
