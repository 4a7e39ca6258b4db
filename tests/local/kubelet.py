"""A kubelet without containers: it reports of each pod that is bound what the pod's annotation says becomes of it."""

from __future__ import annotations

import itertools
from typing import Any

from kaito.api.core import Generic
from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.errors import NotFound
from kaito.kube.informer import Informer
from kaito.kube.store import split_key
from kaito.local.workloads.resources import NODES, PODS

OUTCOME = "test/outcome"
"""Annotation: run (the default: Running and Ready), hang (Running, never Ready), succeed, or an exit code."""
WHEN = "2026-01-01T12:00:00Z"


class Kubelet:
    """One node. A pod that is deleted is gone as soon as the kubelet sees it."""

    def __init__(self, client: Client, node: str = "node-1") -> None:
        self._client = client
        self.node = node
        self._numbers = itertools.count(1)
        self.informer: Informer[Generic] = Informer(client, PODS, fields=f"spec.nodeName={node}")
        self.controller = Controller(f"kubelet-{node}", self._sync)
        self.controller.watch(self.informer)

    async def register(self, **allocatable: str) -> None:
        offered = {"cpu": "8", "memory": "16Gi", "pods": "110", **allocatable}
        await self._client.create(NODES, {"metadata": {"name": self.node}})
        body = {"status": {"allocatable": offered, "capacity": offered}}
        await self._client.patch(NODES, self.node, body, subresource="status")

    async def _sync(self, key: str) -> float | None:
        pod = self.informer.store.get(key)
        namespace, name = split_key(key)
        if pod is None:
            return None
        if pod.metadata.deletionTimestamp:
            await self._client.delete(PODS, name, namespace, uid=pod.metadata.uid, grace_period=0)
            return None
        if not pod.status.get("podIP"):
            await self.report(pod, self._status(pod))
        return None

    async def report(self, pod: Generic, status: dict[str, Any]) -> None:
        try:
            await self._client.patch(
                PODS, pod.metadata.name, {"status": status}, pod.metadata.namespace, subresource="status"
            )
        except NotFound:
            return

    def _status(self, pod: Generic) -> dict[str, Any]:
        outcome = pod.metadata.annotations.get(OUTCOME, "run")
        phase = {"run": "Running", "hang": "Running", "succeed": "Succeeded"}.get(outcome, "Failed")
        ready = "True" if outcome == "run" else "False"
        state: dict[str, Any] = {"running": {"startedAt": WHEN}}
        if phase in ("Succeeded", "Failed"):
            code = 0 if phase == "Succeeded" else int(outcome)
            state = {"terminated": {"exitCode": code, "startedAt": WHEN, "finishedAt": WHEN}}
        return {
            "phase": phase,
            "podIP": f"127.97.1.{next(self._numbers)}",
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": WHEN}],
            "containerStatuses": [
                {"name": "c", "image": "x", "imageID": "x", "ready": ready == "True", "restartCount": 0, "state": state}
            ],
        }
