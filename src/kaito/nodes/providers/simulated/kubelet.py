"""The kubelets of the simulated machines: Node objects that join, get ready, show their GPUs, flap, die.

One task for each running machine. Pods are not run; those that are being deleted on a simulated node are let go, as a
kubelet would.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from kaito.api.conditions import timestamp
from kaito.api.core import Pod
from kaito.api.karpenter import LABEL_INSTANCE_TYPE
from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from kaito.kube.informer import Informer
from kaito.kube.resources import NODES, PODS
from kaito.nodes.claim import ANNOTATION_CLAIM, LABEL_MACHINE_TYPE
from kaito.nodes.providers.simulated.cloud import PREFIX, Machine, SimulatedCloud
from kaito.nodes.providers.simulated.scenario import Fault, FaultRule

log = logging.getLogger(__name__)

UNREGISTERED = {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}
NOTICE_CONDITION = "PreemptScheduled"
RETRY = 0.5
REQUESTS_AT_ONCE = 8
"""All kubelets live in one process and share its connections: a thousand at once would only get in each other's way."""


class Kubelets:
    """All kubelets of one simulated cloud. Run until cancelled."""

    def __init__(self, client: Client, cloud: SimulatedCloud) -> None:
        self._client = client
        self._cloud = cloud
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._pods: Informer[Pod] = Informer(client, PODS)
        self._turns = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def run(self) -> None:
        self._pods.listen(self._pod_changed)
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._cloud.listen(self._changed)
            for machine in self._cloud.machines():
                self._changed(machine.instance.name)
            try:
                await self._pods.run()
            finally:
                self._group = None  # machines that change from here on find no kubelet

    def _changed(self, name: str) -> None:
        if self._group is None:
            return
        machine = self._cloud.machine(name)
        running = self._tasks.pop(name, None)
        if running is not None:
            running.cancel()
        if machine is None:
            self._group.create_task(self._go_dark(name))
        elif machine.instance.provider_id:
            self._tasks[name] = self._group.create_task(self._live(machine))

    async def _live(self, machine: Machine) -> None:
        name, rule = machine.instance.name, machine.fault
        fault = rule.fault if rule is not None else None
        await self._wait(name, "node")
        if fault is Fault.NEVER_REGISTERS:
            return
        await self._insist(lambda: self._join(machine))
        await self._wait(name, "ready")
        if fault is Fault.NEVER_READY:
            return
        await self._insist(lambda: self._report(name, ready=True, offers=_offers(machine, gpus=False)))
        await self._wait(name, "gpus")
        if fault is not Fault.NO_GPUS:
            await self._insist(lambda: self._report(name, ready=True, offers=_offers(machine, gpus=True)))
        if rule is not None:
            await self._suffer(name, rule)

    async def _suffer(self, name: str, rule: FaultRule) -> None:
        """What befalls a node after it was ready."""
        if rule.fault not in (Fault.FLAPS, Fault.DIES, Fault.SPOT_RECLAIM):
            return
        await asyncio.sleep(rule.after)
        if rule.fault is Fault.SPOT_RECLAIM:
            await self._insist(lambda: self._notice(name, rule.lasts))
            await asyncio.sleep(rule.lasts)
        if rule.fault is not Fault.FLAPS:
            self._cloud.vanish(name)
            return
        await self._insist(lambda: self._report(name, ready=False))
        await asyncio.sleep(rule.lasts or 1.0)
        await self._insist(lambda: self._report(name, ready=True))

    async def _join(self, machine: Machine) -> None:
        with suppress(AlreadyExists):  # it joined under a former process
            await self._client.create(NODES, render_node(machine))

    async def _report(self, name: str, *, ready: bool, offers: dict[str, str] | None = None) -> None:
        status, reason = ("True", "KubeletReady") if ready else ("Unknown", "NodeStatusUnknown")
        resources = {"capacity": offers, "allocatable": offers} if offers else {}
        await self._patch_status(name, {"conditions": [_condition("Ready", status, reason)], **resources})

    async def _notice(self, name: str, seconds: float) -> None:
        notice = _condition(NOTICE_CONDITION, "True", "PreemptScheduled", f"the machine is taken back in {seconds:g} s")
        await self._patch_status(name, {"conditions": [_condition("Ready", "True", "KubeletReady"), notice]})

    async def _patch_status(self, name: str, status: dict[str, Any]) -> None:
        try:
            await self._client.patch(NODES, name, {"status": status}, subresource="status")
        except NotFound:
            log.debug("simulated node is gone", extra={"node": name})

    async def _go_dark(self, name: str) -> None:
        """The machine is gone; its Node stays behind, not ready, until somebody deletes it."""
        try:
            async with self._turns:
                await self._report(name, ready=False)
        except KubeError as error:
            log.warning("simulated node not reached", extra={"node": name, "error": str(error)})

    async def _insist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """A kubelet does not give up when the API server is away for a while."""
        while True:
            try:
                async with self._turns:
                    return await attempt()
            except KubeError as error:
                log.debug("kubelet tries again", extra={"error": str(error)})
                await asyncio.sleep(RETRY)

    async def _wait(self, name: str, what: str) -> None:
        await asyncio.sleep(self._cloud.scenario.draw(name, getattr(self._cloud.scenario.delays, what), what))

    def _pod_changed(self, _: Pod | None, pod: Pod | None) -> None:
        if pod is None or pod.metadata.deletionTimestamp is None or self._group is None:
            return
        if self._cloud.machine(pod.spec.nodeName) is not None:
            self._group.create_task(self._end(pod))

    async def _end(self, pod: Pod) -> None:
        meta = pod.metadata
        try:
            await self._client.delete(PODS, meta.name, meta.namespace, uid=meta.uid, grace_period=0)
        except (Conflict, KubeError) as error:
            log.debug("simulated pod not ended", extra={"pod": meta.name, "error": str(error)})


def render_node(machine: Machine) -> dict[str, Any]:
    """A node as it joins: what the cloud knows of it, and the taint that says that nobody has registered it."""
    name = machine.instance.name
    kind = _kind(machine)
    return {
        "metadata": {
            "name": name,
            "labels": {
                LABEL_INSTANCE_TYPE: machine.instance.instance_type,
                LABEL_MACHINE_TYPE: "gpu" if kind.gpu_count else "cpu",
                "kaito.sh/node-provider": "simulated",
                "kubernetes.io/arch": kind.architecture,
                "kubernetes.io/os": "linux",
                "kubernetes.io/hostname": name,
            },
            "annotations": {
                "kaito.sh/backed-by": "nothing: this node is simulated",
                ANNOTATION_CLAIM: f"{machine.instance.claim_kind}/{machine.instance.claim_uid}",
            },
        },
        "spec": {"providerID": f"{PREFIX}{name}", "taints": [UNREGISTERED]},
    }


def _offers(machine: Machine, *, gpus: bool) -> dict[str, str]:
    """What the node offers; GPUs come later, with their device plugin."""
    kind = _kind(machine)
    offers = {"cpu": str(kind.vcpu or 4), "memory": f"{int(kind.memory_gib or 16)}Gi", "pods": "110"}
    if gpus and kind.gpu_count:
        offers[kind.resource] = str(kind.gpu_count)
    return offers


def _kind(machine: Machine) -> InstanceType:
    kind = find_instance_type(machine.instance.instance_type)
    assert kind is not None, "the cloud creates only types that the catalogue knows"
    return kind


def _condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    moment = timestamp(datetime.now(UTC))
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": moment,
        "lastHeartbeatTime": moment,
    }
