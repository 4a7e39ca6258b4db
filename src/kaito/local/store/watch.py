"""A watcher's place in the stream of events: a bounded buffer between the store and one connection.

The store never waits for a watcher. One that does not read fills its buffer, is marked as overflowed and gets nothing
more; its connection is then cut, and the client lists again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from kaito.local.store.records import Event

Filter = Callable[[Event], bool]


class Subscription:
    def __init__(self, wants: Filter, limit: int) -> None:
        self._wants = wants
        self._limit = limit
        self._events: deque[Event] = deque()
        self._wakeup = asyncio.Event()
        self.overflowed = False
        self.closed = False

    def offer(self, event: Event) -> None:
        """Called by the store for every event of the bucket."""
        if self.overflowed or not self._wants(event):
            return
        if len(self._events) >= self._limit:
            self.overflowed = True
            self._events.clear()
        else:
            self._events.append(event)
        self._wakeup.set()

    def replay(self, events: list[Event]) -> None:
        """Past events, which do not count against the limit: they are held by the history anyway."""
        self._events.extend(event for event in events if self._wants(event))
        if self._events:
            self._wakeup.set()

    def close(self) -> None:
        """Ends the watch from the server's side (shutdown, or its kind is gone)."""
        self.closed = True
        self._wakeup.set()

    async def batch(self, timeout: float) -> list[Event]:
        """The events that came since the last call; empty after `timeout` seconds, or when closed or overflowed."""
        if not self._events and not self.closed and not self.overflowed:
            self._wakeup.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._wakeup.wait()
            except TimeoutError:
                return []
        return self.take()

    def take(self) -> list[Event]:
        """What has come so far, without waiting."""
        events = list(self._events)
        self._events.clear()
        return events
