"""Events: what happened to an object, for people. The same event again raises its count and makes no new object."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kaito.api.conditions import timestamp
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, KubeError, NotFound
from kaito.kube.resources import EVENTS

log = logging.getLogger(__name__)

QUIET = 300.0
"""Seconds in which the same event is not written again."""
KEPT = 4096
"""Events remembered; beyond it the longest unheard of are forgotten, and would be written as new ones."""


@dataclass(frozen=True)
class Reference:
    """The object that an event is about."""

    api_version: str
    kind: str
    name: str
    uid: str
    namespace: str = ""


class EventRecorder:
    """Writes core/v1 Events. A failure to write is logged and never disturbs the caller."""

    def __init__(
        self,
        client: Client,
        component: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        kept: int = KEPT,
    ) -> None:
        self._client = client
        self._component = component
        self._now = now
        self._kept = kept
        self._last: dict[str, tuple[datetime, int]] = {}

    async def record(self, about: Reference, type_: str, reason: str, message: str) -> None:
        """`type_` is "Normal" or "Warning"; `reason` CamelCase; `message` one sentence."""
        name = f"{about.name[:200]}.{_digest(about, reason, message)}"
        now = self._now()
        before = self._last.get(name)
        if before is not None and (now - before[0]).total_seconds() < QUIET:
            return
        count = before[1] + 1 if before else 1
        self._remember(name, now, count)
        try:
            await self._write(name, about, type_, reason, message, now, count)
        except KubeError as error:
            log.warning("event not written", extra={"reason": reason, "error": str(error)})

    def _remember(self, name: str, now: datetime, count: int) -> None:
        self._last.pop(name, None)  # So that the order is that of the last time.
        self._last[name] = (now, count)
        while len(self._last) > self._kept:
            del self._last[next(iter(self._last))]

    async def _write(
        self, name: str, about: Reference, type_: str, reason: str, message: str, now: datetime, count: int
    ) -> None:
        namespace = about.namespace or "default"
        if count > 1 and await self._raise_count(name, namespace, now, count):
            return
        body = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "name": about.name,
                "namespace": about.namespace,
                "uid": about.uid,
            },
            "type": type_,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
            "count": count,
        }
        try:
            await self._client.create(EVENTS, body, namespace)
        except AlreadyExists:
            await self._raise_count(name, namespace, now, count + 1)

    async def _raise_count(self, name: str, namespace: str, now: datetime, count: int) -> bool:
        try:
            await self._client.patch(EVENTS, name, {"count": count, "lastTimestamp": timestamp(now)}, namespace)
        except NotFound:
            return False
        return True


def _digest(about: Reference, reason: str, message: str) -> str:
    text = "\x00".join((about.uid, about.kind, reason, message))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
