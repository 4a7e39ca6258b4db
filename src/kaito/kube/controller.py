"""Workers that take keys from a queue and reconcile them, with the error families of `errors` deciding what follows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from kaito.kube.errors import Conflict, KubeError, Retryable, Terminal, Throttled, Waiting
from kaito.kube.informer import Informer
from kaito.kube.queue import WorkQueue
from kaito.kube.store import key_of

log = logging.getLogger(__name__)

RECONCILES = Counter("kaito_reconcile_total", "Reconciles by outcome", ["controller", "outcome"])
RECONCILE_SECONDS = Histogram("kaito_reconcile_seconds", "Time of one reconcile", ["controller"])
QUEUE_DEPTH = Gauge("kaito_queue_depth", "Keys waiting for a worker", ["controller"])

Reconcile = Callable[[str], Awaitable[float | None]]
"""Reconcile one key. Returns the seconds after which to look again, or None when only a change shall wake us."""


class Controller:
    """One queue, some workers, and the informers whose changes feed the queue."""

    def __init__(self, name: str, reconcile: Reconcile, *, workers: int = 4) -> None:
        self.name = name
        self.queue = WorkQueue()
        self._reconcile = reconcile
        self._workers = workers
        self._informers: list[Informer[Any]] = []

    def watch(self, informer: Informer[Any], keys: Callable[[Any], Iterable[str]] | None = None) -> None:
        """Queue `keys(object)` on every change of `informer`, for the old and the new object; else its own key."""
        mapping = keys or (lambda obj: (key_of(obj),))

        def changed(old: Any, new: Any) -> None:
            for obj in (old, new):
                if obj is not None:
                    for key in mapping(obj):
                        self.queue.add(key)

        informer.listen(changed)
        if informer not in self._informers:
            self._informers.append(informer)

    async def run(self) -> None:
        """Run the workers until cancelled, once all informers know the world. The informers are run by their owner."""
        for informer in self._informers:
            await informer.wait_synced()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            self.queue.close()

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            QUEUE_DEPTH.labels(self.name).set(len(self.queue))
            started = time.perf_counter()
            try:
                outcome = await self._reconcile_one(key)
            finally:
                self.queue.done(key)
            RECONCILES.labels(self.name, outcome).inc()
            RECONCILE_SECONDS.labels(self.name).observe(time.perf_counter() - started)

    async def _reconcile_one(self, key: str) -> str:
        try:
            again = await self._reconcile(key)
        except Waiting as waiting:
            log.debug("waiting", extra={"controller": self.name, "key": key, "reason": waiting.reason})
            self.queue.forget(key)
            return "waiting"
        except Terminal as terminal:
            log.info("cannot go on", extra={"controller": self.name, "key": key, "reason": terminal.reason})
            self.queue.forget(key)
            return "terminal"
        except Throttled as throttled:
            self.queue.add_after(key, throttled.retry_after)
            return "throttled"
        except Conflict:
            self.queue.add_after_failure(key)  # somebody was faster; look again at what they made
            return "conflict"
        except (Retryable, KubeError) as error:
            return self._failed(key, error)
        except Exception as error:
            # One object with a surprise must not stop the others; it is logged whole and tried again.
            log.exception("reconcile broke", extra={"controller": self.name, "key": key})
            return self._failed(key, error)
        self.queue.forget(key)
        if again is not None:
            self.queue.add_after(key, again)
        return "done"

    def _failed(self, key: str, error: Exception) -> str:
        seconds = self.queue.add_after_failure(key)
        extra = {"controller": self.name, "key": key, "error": str(error), "retry_in": round(seconds, 1)}
        log.warning("reconcile failed", extra=extra)
        return "failed"
