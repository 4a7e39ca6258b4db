"""What the cloud has, as one list that all claims share.

The list is read again every `poll_seconds` while some claim waits for the cloud, and every two minutes otherwise, for
the sake of garbage collection. Each name that we are in doubt about (a create whose answer never came) is unknown
until a list that began after the doubt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from kaito.nodes.errors import ProviderError
from kaito.nodes.providers.base import Instance, InstanceState, Provider

log = logging.getLogger(__name__)

IDLE_SECONDS = 120.0

Changed = Callable[[str], None]
"""Called with the name of an instance that appeared, changed or went."""


class Instances:
    def __init__(self, provider: Provider, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._provider = provider
        self._idle_seconds = idle_seconds
        self._known: dict[str, Instance] = {}
        self._doubts: set[str] = set()
        self._touched: set[str] = set()
        """Names that we changed while a list was under way: that list says nothing about them."""
        self._listed = False
        self._listeners: list[Changed] = []
        self._after_list: list[Callable[[], None]] = []
        self._current: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self.error: ProviderError | None = None
        """Why the last list failed; None after one that did not."""
        self._interest: set[str] = set()
        self._wake = asyncio.Event()

    def listen(self, changed: Changed) -> None:
        self._listeners.append(changed)

    def after_list(self, done: Callable[[], None]) -> None:
        """Call `done` after each complete list."""
        self._after_list.append(done)

    def get(self, name: str) -> Instance | None:
        return self._known.get(name)

    def all(self) -> list[Instance]:
        return list(self._known.values())

    def is_known(self, name: str) -> bool:
        """Whether the absence of `name` can be trusted."""
        return self._listed and name not in self._doubts

    def doubt(self, name: str) -> None:
        """We asked the cloud for a change and do not know whether it took place."""
        self._doubts.add(name)
        self._touched.add(name)

    def note(self, instance: Instance) -> None:
        """The cloud's own answer about one instance."""
        self._doubts.discard(instance.name)
        self._touched.add(instance.name)
        self._known[instance.name] = instance

    def note_deleting(self, name: str) -> None:
        known = self._known.get(name)
        if known is not None:
            self.note(replace(known, state=InstanceState.DELETING))

    def forget(self, name: str) -> None:
        """The cloud says that it has none of this name."""
        self._doubts.discard(name)
        self._touched.add(name)
        self._known.pop(name, None)

    def follow(self, name: str, *, waiting: bool) -> None:
        """Poll while somebody waits for a change of `name`."""
        if waiting and name not in self._interest:
            self._interest.add(name)
            self._wake.set()
        elif not waiting:
            self._interest.discard(name)

    async def refresh(self) -> None:
        """List now. All who ask before it begins share one list; nobody is served one that began before they asked."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._list_after(self._current))
        await asyncio.shield(self._next)

    async def run(self) -> None:
        """Keep the list current until cancelled."""
        while True:
            try:
                await self.refresh()
            except ProviderError as error:
                log.warning("instances not listed", extra={"provider": self._provider.name, "error": error.message})
            await self._pause()

    async def _pause(self) -> None:
        """Until the next list is due: soon while somebody waits, else when the idle time is over or interest wakes."""
        loop = asyncio.get_running_loop()
        listed_at = loop.time()
        if not self._interest:
            self._wake.clear()
            try:
                # Not wait_for: before Python 3.12 that may swallow a cancellation that comes together with the event.
                async with asyncio.timeout(self._idle_seconds):
                    await self._wake.wait()
            except TimeoutError:
                return
        await asyncio.sleep(max(0.0, listed_at + self._provider.poll_seconds - loop.time()))

    async def _list_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None and not running.done():
            await asyncio.wait({running})
        self._current, self._next = self._next, None
        try:
            await self._list()
        except ProviderError as error:
            self.error = error
            raise
        self.error = None
        for done in self._after_list:
            done()

    async def _list(self) -> None:
        self._touched.clear()
        doubts = set(self._doubts)
        found = {instance.name: instance for instance in await self._provider.list()}
        skipped = set(self._touched)
        for name in (found.keys() | self._known.keys()) - skipped:
            before, after = self._known.get(name), found.get(name)
            if after is None:
                del self._known[name]
            else:
                self._known[name] = after
            if before != after:
                self._tell(name)
        self._listed = True
        self._doubts -= doubts - skipped

    async def close(self) -> None:
        """Let go of lists under way."""
        tasks = [task for task in (self._current, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, name: str) -> None:
        for changed in self._listeners:
            changed(name)
