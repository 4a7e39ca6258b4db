"""The scheduling loop: one pod at a time, woken by pods and nodes; what it bound counts before the cache shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from kaito.api.conditions import timestamp
from kaito.api.core import Generic
from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.errors import Conflict, NotFound
from kaito.kube.events import EventRecorder, Reference
from kaito.kube.informer import Informer
from kaito.kube.store import key_of, split_key
from kaito.local.scheduler.plan import (
    DEFAULT_SCHEDULER,
    Bind,
    Observed,
    Unschedulable,
    is_pending,
    neglected_wishes,
    plan_placement,
)
from kaito.local.scheduler.requests import total_requests
from kaito.local.workloads.announcer import Announcer
from kaito.local.workloads.objects import condition_of, is_finished
from kaito.local.workloads.plan import Announce
from kaito.local.workloads.resources import NODES, PODS

STRATEGIC_MERGE = "application/strategic-merge-patch+json"


async def run_scheduler(client: Client, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Bind pending pods until cancelled. The client is the caller's: it stays open."""
    async with asyncio.TaskGroup() as group:
        scheduler = Scheduler(client, now)
        for task in scheduler.tasks():
            group.create_task(task)


class Scheduler:
    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._announcer = Announcer(EventRecorder(client, DEFAULT_SCHEDULER, now))
        self._pods: Informer[Generic] = Informer(client, PODS)
        self._nodes: Informer[Generic] = Informer(client, NODES)
        self._bound: dict[str, str] = {}
        """Pod uid -> node: bound by us, and not yet so in the cache."""
        self._stuck: set[str] = set()
        """Keys of pods that no node could take."""
        # One worker: two at once would give the same room away twice.
        self._controller = Controller("scheduler", self._schedule, workers=1)
        self._controller.watch(self._pods, _pending_key)
        self._controller.watch(self._nodes, lambda _: ())
        self._pods.listen(self._pod_changed)
        self._nodes.listen(self._node_changed)

    def tasks(self) -> list[Any]:
        return [self._pods.run(), self._nodes.run(), self._controller.run(), self._announcer.run()]

    def _pod_changed(self, old: Generic | None, new: Generic | None) -> None:
        pod = new or old
        if pod is not None and (new is None or pod.spec.get("nodeName")):
            self._bound.pop(pod.metadata.uid, None)
            self._stuck.discard(key_of(pod))
        if old is not None and old.spec.get("nodeName") and (new is None or is_finished(new)):
            self._retry_stuck()

    def _node_changed(self, old: Generic | None, new: Generic | None) -> None:
        if old is None or new is None or _offer(old) != _offer(new):
            self._retry_stuck()

    def _retry_stuck(self) -> None:
        for key in sorted(self._stuck):
            self._controller.queue.add(key)

    async def _schedule(self, key: str) -> float | None:
        pod = self._pods.store.get(key)
        if pod is None or not is_pending(pod) or pod.metadata.uid in self._bound:
            self._stuck.discard(key)
            return None
        decision = plan_placement(Observed(pod, self._nodes.store.values(), self._used()))
        match decision:
            case Bind():
                await self._bind(key, pod, decision)
            case Unschedulable():
                self._stuck.add(key)
                await self._refuse(key, pod, decision)
        return None

    def _used(self) -> dict[str, Any]:
        """By node: what its pods request, those among them that we bound just now."""
        pods: dict[str, list[Generic]] = {}
        for pod in self._pods.store.values():
            node = pod.spec.get("nodeName") or self._bound.get(pod.metadata.uid)
            if node and not is_finished(pod):
                pods.setdefault(node, []).append(pod)
        return {node: total_requests(members) for node, members in pods.items()}

    async def _bind(self, key: str, pod: Generic, decision: Bind) -> None:
        namespace, name = split_key(key)
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": decision.node},
        }
        self._bound[pod.metadata.uid] = decision.node
        try:
            await self._client.request("bind", "POST", PODS.path(namespace, name, "binding"), {}, body)
        except (NotFound, Conflict):
            self._bound.pop(pod.metadata.uid, None)  # Gone, or placed by another hand: the watch tells.
            return
        except BaseException:
            self._bound.pop(pod.metadata.uid, None)
            raise
        self._stuck.discard(key)
        about = Reference("v1", "Pod", name, pod.metadata.uid, namespace)
        self._announce(about, Announce("Scheduled", f"Successfully assigned {key} to {decision.node}"))
        wishes = neglected_wishes(pod)
        if wishes:
            message = f"This scheduler does not look at {', '.join(wishes)}; the pod was placed without."
            self._announce(about, Announce("NotSupported", message, "Warning"))

    async def _refuse(self, key: str, pod: Generic, decision: Unschedulable) -> None:
        before = condition_of(pod.status, "PodScheduled") or {}
        said = {"type": "PodScheduled", "status": "False", "reason": decision.reason, "message": decision.message}
        if said.items() <= before.items():
            return
        same = before.get("status") == "False"
        since = before.get("lastTransitionTime") if same else timestamp(self._now())
        body = {"status": {"conditions": [{**said, "lastTransitionTime": since}]}}
        namespace, name = split_key(key)
        try:
            await self._client.patch(PODS, name, body, namespace, subresource="status", content_type=STRATEGIC_MERGE)
        except NotFound:
            return
        about = Reference("v1", "Pod", name, pod.metadata.uid, namespace)
        self._announce(about, Announce("FailedScheduling", decision.message, "Warning"))

    def _announce(self, about: Reference, event: Announce) -> None:
        self._announcer.announce(about, event)


def _pending_key(pod: Generic) -> Iterable[str]:
    return (key_of(pod),) if is_pending(pod) else ()


def _offer(node: Generic) -> tuple[Any, ...]:
    """What of a node decides who fits: heartbeats change none of it."""
    status = node.status
    return node.metadata.labels, node.spec, status.get("allocatable"), node.metadata.deletionTimestamp is None
