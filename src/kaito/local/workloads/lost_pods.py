"""Pods of nodes that are no more: nobody will ever report on them, so they are failed and deleted at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kaito.api.conditions import timestamp
from kaito.api.core import Generic
from kaito.kube.controller import Controller
from kaito.kube.errors import NotFound
from kaito.kube.store import key_of
from kaito.local.workloads.controllers import World
from kaito.local.workloads.objects import is_finished
from kaito.local.workloads.resources import NODES, PODS

QUARANTINE = 5.0
"""Seconds for which a pod of an unknown node is left alone: the node may be about to register."""
STRATEGIC_MERGE = "application/strategic-merge-patch+json"


def failed_status(pod: Generic, now: datetime) -> dict[str, Any] | None:
    """The status that a lost pod ends with; None when it had ended before."""
    if is_finished(pod):
        return None
    message = f"The node {pod.spec.get('nodeName')} does not exist any more."
    target = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": message,
        "lastTransitionTime": timestamp(now),
    }
    return {"phase": "Failed", "reason": "NodeLost", "message": message, "conditions": [target]}


class LostPods:
    """Keyed by the node's name."""

    def __init__(self, world: World, quarantine: float = QUARANTINE) -> None:
        self._world = world
        self._pods = world.informers.of(PODS).store
        self._nodes = world.informers.of(NODES)
        self._quarantine = quarantine
        self.controller = Controller("lost-pods", self.reconcile, workers=1)
        self.controller.watch(world.informers.of(PODS), self._missing_node)
        self.controller.watch(self._nodes, lambda _: ())
        self._nodes.listen(self._node_changed)

    def _missing_node(self, pod: Generic) -> Iterable[str]:
        name = pod.spec.get("nodeName")
        if name and self._nodes.store.get(name) is None:
            self.controller.queue.add_after(name, self._quarantine)
        return ()

    def _node_changed(self, old: Generic | None, new: Generic | None) -> None:
        if old is not None and new is None:
            self.controller.queue.add(key_of(old))

    async def reconcile(self, node: str) -> float | None:
        if self._nodes.store.get(node) is not None or not self._pods.by_index("node", node):
            return None
        if await self._world.client.find(NODES, node) is not None:
            return None
        for pod in self._pods.by_index("node", node):
            await self._end(pod)
        return None

    async def _end(self, pod: Generic) -> None:
        client, metadata = self._world.client, pod.metadata
        status = failed_status(pod, self._world.now())
        try:
            if status is not None:
                body = {"metadata": {"uid": metadata.uid}, "status": status}
                await client.patch(
                    PODS,
                    metadata.name,
                    body,
                    metadata.namespace,
                    subresource="status",
                    content_type=STRATEGIC_MERGE,
                )
            await client.delete(PODS, metadata.name, metadata.namespace, uid=metadata.uid, grace_period=0)
        except NotFound:
            return
