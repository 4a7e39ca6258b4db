"""Asks the pods of Workspaces what they do, beside the workers, and wakes a Workspace when the answer is news.

Those at work answer `/progress` themselves; of those that do not start their Events tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from kaito.api.core import Pod
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.workspace.names import HTTP_PORT
from kaito.workspace.progress import Progress, ProgressBook
from kaito.workspace.stuck import is_stuck, warning_of

log = logging.getLogger(__name__)

POLLS_AT_ONCE = 20
POLL_TIMEOUT = 3.0
STUCK_INTERVAL = 3.0


class _Pods(Protocol):
    def values(self) -> list[Pod]: ...


class Poller:
    """Asks the pods of `pods` that are at work, every `interval` seconds, and calls `changed(key)` on news."""

    def __init__(
        self,
        client: Client,
        pods: _Pods,
        book: ProgressBook,
        key_of_pod: Callable[[Pod], Iterable[str]],
        changed: Callable[[str], None],
        *,
        interval: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._client = client
        self._pods = pods
        self._book = book
        self._key_of_pod = key_of_pod
        self._changed = changed
        self._interval = interval
        self._slots = asyncio.Semaphore(POLLS_AT_ONCE)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.poll, self._interval))
            group.create_task(_repeat(self.poll_stuck, min(self._interval, STUCK_INTERVAL)))

    async def poll_stuck(self) -> None:
        """One round over the pods that ought to have started. They are few, so they are asked about more often."""
        now = self._now()
        await asyncio.gather(*(self._ask_events(pod, now) for pod in self._pods.values() if is_stuck(pod, now)))

    async def poll(self) -> None:
        """One round over all pods that are at work."""
        now = self._now()
        busy = [pod for pod in self._pods.values() if is_at_work(pod)]
        stuck = [pod for pod in self._pods.values() if is_stuck(pod, now)]
        alive: dict[str, list[str]] = {key: [] for key in self._book.known()}
        for pod in (*busy, *stuck):
            for key in self._key_of_pod(pod):
                alive.setdefault(key, []).append(pod.metadata.uid)
        for key, uids in alive.items():
            self._book.keep(key, uids)
        await asyncio.gather(*(self._ask(pod) for pod in busy))

    async def _ask(self, pod: Pod) -> None:
        metadata = pod.metadata
        path = f"api/v1/namespaces/{metadata.namespace}/pods/{metadata.name}:{HTTP_PORT}/proxy/progress"
        try:
            async with self._slots:
                answer = await self._client.request("proxy", "GET", path, timeout=POLL_TIMEOUT)
            progress = msgspec.json.decode(answer, type=Progress)
        except (KubeError, msgspec.DecodeError) as error:
            # Between two steps nobody listens; the next round asks again.
            log.debug("no progress", extra={"pod": metadata.name, "error": str(error)})
            return
        self._note(pod, progress)

    async def _ask_events(self, pod: Pod, now: datetime) -> None:
        try:
            async with self._slots:
                warning = await warning_of(self._client, pod, now)
        except KubeError as error:
            log.debug("no events", extra={"pod": pod.metadata.name, "error": str(error)})
            return
        if warning is not None:
            self._note(pod, warning)

    def _note(self, pod: Pod, progress: Progress) -> None:
        for key in self._key_of_pod(pod):
            if self._book.write(key, pod.metadata.uid, progress):
                self._changed(key)


async def _repeat(work: Callable[[], Awaitable[None]], pause: float) -> None:
    while True:
        await work()
        await asyncio.sleep(pause)


def is_at_work(pod: Pod) -> bool:
    """A pod with an address, one of whose containers runs while the pod is not ready: a step or a starting server."""
    status = pod.status
    if not status.podIP or status.phase in ("Succeeded", "Failed") or pod.metadata.deletionTimestamp:
        return False
    if any(c.type == "Ready" and c.status == "True" and _serves(pod) for c in status.conditions):
        return False
    return any(c.state.running for c in (*status.initContainerStatuses, *status.containerStatuses))


def _serves(pod: Pod) -> bool:
    """A tuning pod is "ready" while it pushes, and then has still something to say."""
    return pod.metadata.labels.get("kaito.sh/role") != "tune"
