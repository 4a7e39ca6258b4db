"""List, then watch from that version, then list again when the server says so: a cache that follows one kind.

States: listing -> watching -> (stream ends) watching again from the last version -> (410 Gone) listing. A relist is
compared with the cache, so that whoever listens sees the same calls after a lost watch as without.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from kaito.kube.client import Client, WatchEvent
from kaito.kube.errors import Expired, KubeError, Unreachable
from kaito.kube.resources import Resource
from kaito.kube.store import IndexFunction, Store, key_of

log = logging.getLogger(__name__)

T = TypeVar("T")

Listener = Callable[[T | None, T | None], None]
"""Called with (old, new): old is None for an object that is new here, new is None for one that is gone."""

FIRST_BACKOFF = 0.2
LAST_BACKOFF = 30.0
SHORTEST_WATCH = 0.5
"""Seconds. A server that ends watches sooner than that is one to come back to more slowly."""


class Informer(Generic[T]):
    """A cache of one kind, in one namespace or all, with named indexes. `run` it until cancelled."""

    def __init__(
        self,
        client: Client,
        resource: Resource[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        indexes: Mapping[str, IndexFunction] | None = None,
        fingerprints: bool = False,
        transform: Callable[[T], None] | None = None,
    ) -> None:
        """`transform` may make each object smaller before it is kept: it drops what nobody will read."""
        self.resource = resource
        self.store: Store[T] = Store(indexes, fingerprints=fingerprints)
        self._client = client
        self._scope = {"namespace": namespace, "labels": labels, "fields": fields}
        self._transform = transform
        self._listeners: list[Listener[T]] = []
        self._synced = asyncio.Event()
        self._version = ""
        self._failures = 0
        """In a row; a watch that lives on for a while ends the row."""

    def listen(self, listener: Listener[T]) -> None:
        """Call `listener(old, new)` for every change from now on. It must not block nor raise."""
        self._listeners.append(listener)

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._relist()
                await self._follow()
            except Expired:
                self._version = ""
            except KubeError as error:
                log.warning("watch broke off", extra={"kind": self.resource.kind, "error": str(error)})
            else:
                continue
            self._failures += 1
            await asyncio.sleep(_backoff(self._failures))

    async def _relist(self) -> None:
        seen = set()
        version = ""
        async for page in self._client.pages(self.resource, **self._scope):
            version = page.resource_version
            for obj, raw in page.items:
                seen.add(key_of(obj))
                self._put(obj, raw)
        for key in self.store.keys() - seen:
            self._remove(key)
        self._reach(version)
        self._synced.set()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        good_at = loop.time() + SHORTEST_WATCH
        async for event in self._client.watch(self.resource, version=self._version, **self._scope):
            self._take(event)
            if loop.time() >= good_at:
                self._failures = 0
        if loop.time() < good_at:
            raise Unreachable(f"the watch on {self.resource.plural} ended as soon as it began")
        self._failures = 0

    def _take(self, event: WatchEvent[T]) -> None:
        if event.type in ("ADDED", "MODIFIED"):
            self._put(event.object, event.raw)
        elif event.type == "DELETED":
            self._remove(key_of(event.object))
        self._reach(_version(event.object) or self._version)

    def _reach(self, version: str) -> None:
        self._version = version
        self.store.reach(version)

    def _put(self, obj: T, raw: bytes) -> None:
        key = key_of(obj)
        cached = self.store.get(key)
        if cached is not None and _version(cached) == _version(obj):
            return
        if self._transform is not None:
            self._transform(obj)
        self._notify(self.store.put(key, obj, raw), obj)

    def _remove(self, key: str) -> None:
        old = self.store.remove(key)
        if old is not None:
            self._notify(old, None)

    def _notify(self, old: T | None, new: T | None) -> None:
        for listener in self._listeners:
            listener(old, new)


def _version(obj: object) -> str:
    if isinstance(obj, dict):
        return str(obj.get("metadata", {}).get("resourceVersion", ""))
    return str(getattr(obj, "metadata").resourceVersion)  # noqa: B009 - T is any Struct with metadata


def _backoff(failures: int) -> float:
    """Seconds: doubles with each failure, with jitter so that many informers do not come back at once."""
    base: float = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** (failures - 1))
    return base * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
