"""Keys waiting to be reconciled: each at most once in the queue, and never in two workers at a time.

A key that is added while it is being worked on comes back when that work is done. Back-off is per key. Time is the
event loop's, so that a test can turn it.
"""

from __future__ import annotations

import asyncio
from collections import deque

FIRST_BACKOFF = 0.1
LAST_BACKOFF = 60.0


class WorkQueue:
    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._waiting: set[str] = set()
        """Keys to work on: in `_ready`, or kept back because they are in work."""
        self._in_work: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Nothing queued and nothing in work; keys that wait for a timer do not count."""
        return not self._waiting and not self._in_work

    def add(self, key: str) -> None:
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._in_work:
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: str, seconds: float) -> None:
        """Add the key later. An earlier timer for the same key stands; a later one is replaced."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None and not timer.cancelled():
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._fire, key)

    def add_after_failure(self, key: str) -> float:
        """Add the key with its back-off, which grows with each failure until `forget`. Returns the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds: float = min(LAST_BACKOFF, FIRST_BACKOFF * 2**failures)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: str) -> None:
        """The key went well: its next failure starts from the shortest back-off."""
        self._failures.pop(key, None)

    async def take(self) -> str:
        """The next key; it is in work until `done`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._in_work.add(key)
        return key

    def done(self, key: str) -> None:
        self._in_work.discard(key)
        if key in self._waiting:
            self._ready.append(key)
            self._wake.set()

    def close(self) -> None:
        """Cancel what waits for a timer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)
