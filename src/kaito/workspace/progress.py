"""What the steps in the pods say of their work, fetched through the API server's pod proxy, beside the workers.

A step answers `GET /progress` while it runs. The poller asks each unready pod at most once per interval and wakes the
Workspace when the answer changed; the planners then find it in the picture, like anything else that was observed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from kaito.api.core import Pod
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.workspace.names import HTTP_PORT

log = logging.getLogger(__name__)

POLLS_AT_ONCE = 20
POLL_TIMEOUT = 3.0


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The answer of a step: the fields of the pod contract. Numbers that are not known are None."""

    step: str = ""
    state: str = ""
    message: str = ""
    reason: str = ""
    hint: str = ""
    trainStep: int | None = None
    totalSteps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    evalLoss: float | None = None
    tokensPerSecond: float | None = None
    etaSeconds: float | None = None
    startedAt: str | None = None


class ProgressBook:
    """The last answer of each pod, by Workspace and pod."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, Progress]] = {}

    def of(self, key: str) -> Mapping[str, Progress]:
        return dict(self._pages.get(key, ()))

    def write(self, key: str, uid: str, progress: Progress) -> bool:
        """True when this is news."""
        page = self._pages.setdefault(key, {})
        if page.get(uid) == progress:
            return False
        page[uid] = progress
        return True

    def keep(self, key: str, uids: Iterable[str]) -> None:
        """Forget the pods of the Workspace that are no more."""
        alive = set(uids)
        page = {uid: progress for uid, progress in self._pages.get(key, {}).items() if uid in alive}
        if page:
            self._pages[key] = page
        else:
            self._pages.pop(key, None)

    def known(self) -> list[str]:
        return list(self._pages)


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
    ) -> None:
        self._client = client
        self._pods = pods
        self._book = book
        self._key_of_pod = key_of_pod
        self._changed = changed
        self._interval = interval
        self._slots = asyncio.Semaphore(POLLS_AT_ONCE)

    async def run(self) -> None:
        while True:
            await self.poll()
            await asyncio.sleep(self._interval)

    async def poll(self) -> None:
        """One round over all pods that are at work."""
        busy = [pod for pod in self._pods.values() if is_at_work(pod)]
        alive: dict[str, list[str]] = {key: [] for key in self._book.known()}
        for pod in busy:
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
        for key in self._key_of_pod(pod):
            if self._book.write(key, metadata.uid, progress):
                self._changed(key)


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
