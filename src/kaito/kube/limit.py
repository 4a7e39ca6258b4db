"""How many requests a client may make: a token bucket, as client-go has one. Time is the event loop's."""

from __future__ import annotations

import asyncio


class RateLimit:
    """`rate` requests a second, and up to `burst` at once after a rest. A rate of 0 is no limit."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = max(1, burst)
        self._tokens = float(self._burst)
        self._filled_at = 0.0

    async def take(self) -> None:
        """Return when one more request may go; in the order of the calls."""
        if self._rate <= 0:
            return
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
