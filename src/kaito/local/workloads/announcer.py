"""Events that nobody waits for: controllers say what they did, and go on."""

from __future__ import annotations

import asyncio
from collections import deque

from kaito.kube.events import EventRecorder, Reference
from kaito.local.workloads.plan import Announce

KEPT_EVENTS = 1000


class Announcer:
    """Writes events after the fact, in order, so that no worker waits. Beyond a backlog the oldest are lost."""

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder
        self._waiting: deque[tuple[Reference, Announce]] = deque(maxlen=KEPT_EVENTS)
        self._wake = asyncio.Event()

    def announce(self, about: Reference, event: Announce) -> None:
        self._waiting.append((about, event))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                about, event = self._waiting.popleft()
                await self._recorder.record(about, event.type, event.reason, event.message)
