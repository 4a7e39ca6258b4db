"""Leader election by a Lease: at most one holder acts, another takes over when it goes silent.

The holder renews every `retry` seconds and gives up being leader when it could not for `deadline` seconds, which is
less than the `duration` after which others may take over: so two are never leaders at once while clocks tick alike.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from kaito.api.core import Lease
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, Conflict, KubeError
from kaito.kube.resources import LEASES

log = logging.getLogger(__name__)

DURATION = 12.0
DEADLINE = 8.0
RETRY = 2.0


def _micro_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaderElector:
    """Campaigns for the Lease `namespace/name` as `identity`, and runs a callable while it leads."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        duration: float = DURATION,
        deadline: float = DEADLINE,
        retry: float = RETRY,
    ) -> None:
        """`deadline` must be less than `duration`, and `retry` less than `deadline`; all in seconds."""
        if not retry < deadline < duration:
            raise ValueError(f"a lease needs retry < deadline < duration, not {retry}, {deadline}, {duration}")
        self._client = client
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._now = now
        self._duration, self._deadline, self._retry = duration, deadline, retry
        self._seen: tuple[str, float] = ("", 0.0)
        """The last renewal that we saw, and when by our own clock: others' clocks are not trusted."""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, run `work` while it is held, release it at the end. Returns when leadership is lost."""
        while (held := await self._hold_in_time(asyncio.get_running_loop().time())) is None:
            await asyncio.sleep(self._retry)
        log.info("leading", extra={"lease": self._name, "holder": self.identity})
        job = asyncio.ensure_future(work())
        renewal = asyncio.ensure_future(self._renew(held))
        try:
            await asyncio.wait({job, renewal}, return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                job.result()
        finally:
            job.cancel()
            renewal.cancel()
            await asyncio.gather(job, renewal, return_exceptions=True)
            await self._release()

    async def _renew(self, held: float) -> None:
        """Returns when the lease could not be renewed in time. `held` is when it was, by the loop's clock."""
        loop = asyncio.get_running_loop()
        while loop.time() < held + self._deadline:
            await asyncio.sleep(min(self._retry, held + self._deadline - loop.time()))
            held = await self._hold_in_time(held) or held
        log.error("lost the lease", extra={"lease": self._name, "holder": self.identity})

    async def _hold_in_time(self, held: float) -> float | None:
        """When the lease was asked for, if it was got; not later than the deadline after `held`.

        The time counts from the question: others count from the answer's making, which is never earlier.
        """
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with asyncio.timeout_at(held + self._deadline):
                return asked if await self._try_hold() else None
        except TimeoutError:
            log.warning("lease not reached in time", extra={"lease": self._name})
            return None

    async def _try_hold(self) -> bool:
        try:
            lease = await self._client.find(LEASES, self._name, self._namespace)
            if lease is None:
                await self._client.create(LEASES, self._body(0, None), self._namespace)
                return True
            if lease.spec.holderIdentity not in ("", self.identity) and not self._is_silent(lease):
                return False
            await self._take(lease)
        except (AlreadyExists, Conflict):
            return False
        except KubeError as error:
            log.warning("lease not reached", extra={"lease": self._name, "error": str(error)})
            return False
        return True

    def _is_silent(self, lease: Lease) -> bool:
        now = asyncio.get_running_loop().time()
        renewal = f"{lease.spec.holderIdentity}@{lease.spec.renewTime}"
        if renewal != self._seen[0]:
            self._seen = (renewal, now)
        return now - self._seen[1] >= max(self._duration, float(lease.spec.leaseDurationSeconds))

    async def _take(self, lease: Lease) -> None:
        changed = lease.spec.holderIdentity != self.identity
        transitions = lease.spec.leaseTransitions + (1 if changed else 0)
        body = self._body(transitions, None if changed else lease.spec.acquireTime)
        body["metadata"] = {"resourceVersion": lease.metadata.resourceVersion}
        await self._client.patch(LEASES, self._name, body, self._namespace)

    async def _release(self) -> None:
        """Let the next one in at once. Best effort: who cannot reach the API cannot release either."""
        try:
            lease = await self._client.find(LEASES, self._name, self._namespace)
            if lease is not None and lease.spec.holderIdentity == self.identity:
                body = {
                    "metadata": {"resourceVersion": lease.metadata.resourceVersion},
                    "spec": {"holderIdentity": ""},
                }
                await self._client.patch(LEASES, self._name, body, self._namespace)
        except KubeError as error:
            log.info("lease not released", extra={"lease": self._name, "error": str(error)})

    def _body(self, transitions: int, acquired: str | None) -> dict[str, object]:
        now = _micro_time(self._now())
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, math.ceil(self._duration)),
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        return {"metadata": {"name": self._name}, "spec": spec}
