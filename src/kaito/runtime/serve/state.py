"""Where the server stands: loading, ready, leaving, draining. Health endpoints and new requests ask here.

A pod that is told to end is still sent requests until every node has heard of it: while it is leaving it is no longer
healthy, but answers what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from kaito.runtime.errors import RuntimeFailure
from kaito.runtime.serve.errors import NotReady


@dataclass
class ServerState:
    phase: Literal["loading", "ready", "leaving", "draining"] = "loading"
    active: int = 0
    failure: RuntimeFailure | None = None
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts a request in while it is answered. Raises NotReady."""
        if self.phase == "loading":
            raise NotReady("the model is still loading")
        if self.phase == "draining":
            raise NotReady("the server is going down; ask again, another one will answer")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            if not self.active:
                self._idle.set()

    async def drain(self, timeout: float) -> bool:
        """No new requests; wait for those at work. False when some were still running after `timeout` seconds."""
        self.phase = "draining"
        self._idle.clear()
        if not self.active:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
