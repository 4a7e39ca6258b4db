"""One pod: a task that makes the machine hold what the pod's object says, whatever woke it.

Nothing of what it decides from is in its memory alone: the API has the object, the pod's folder has the runs, and the
processes are asked themselves. So a new agent goes on where a killed one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any

from kaito.api.conditions import timestamp
from kaito.kube.errors import Conflict, KubeError, NotFound
from kaito.kube.events import Reference
from kaito.local.agent.configuration import references
from kaito.local.agent.container import Container
from kaito.local.agent.environment import PodFacts
from kaito.local.agent.errors import ContainerRefused
from kaito.local.agent.launch import Launcher
from kaito.local.agent.lifecycle import FAILED, FINAL, PENDING, Plan, parse_time, plan_pod
from kaito.local.agent.run import read_json, write_json
from kaito.local.agent.status import HOST_IP, ContainerReport, PodReport, render_status
from kaito.local.agent.volumes import Volumes
from kaito.local.agent.world import PODS, Object, World

log = logging.getLogger(__name__)

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
FORCED_GRACE = 2.0
"""Seconds for the processes of a pod whose object is gone already."""
DEFAULT_GRACE = 30.0
RETRY_SECONDS = 2.0


class PodWorker:
    """The life of one pod on this machine. `run` returns when nothing of it is left."""

    def __init__(self, world: World, pod: Object) -> None:
        metadata = pod["metadata"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        self.key = f"{self.namespace}/{self.name}"
        self.uid: str = metadata["uid"]
        self.folder: Path = world.config.pods / self.uid
        self.address = world.addresses.of(self.folder)
        self._world = world
        self._pod = pod
        self._wake = asyncio.Event()
        self._wake.set()
        self._volumes = Volumes(self.folder / "volumes", world.config.home / "volumes")
        self._launcher = Launcher(world.config, self.folder, self.address, world.memory)
        self._folders: dict[str, Path] | None = None
        self._written: Object | None = None
        self._prepare_folder(pod)
        self.inits = self._containers("initContainers", is_init=True)
        self.mains = self._containers("containers", is_init=False)
        for container in self.containers:
            container.adopt(self.address, self.wake)

    @property
    def containers(self) -> list[Container]:
        return [*self.inits, *self.mains]

    @property
    def references(self) -> set[tuple[str, str]]:
        return references(self._pod)

    @property
    def default_container(self) -> str:
        return str((self._pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER) or "")

    def wake(self) -> None:
        self._wake.set()

    def release(self) -> None:
        for container in self.containers:
            container.release()

    async def run(self) -> None:
        seconds: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)
            self._wake.clear()
            try:
                if await self._is_over():
                    return
                seconds = await self._sync()
            except KubeError as error:
                log.warning("pod not synced", extra={"pod": self.key, "error": str(error)})
                seconds = RETRY_SECONDS
            except OSError as error:
                log.error("pod not synced", extra={"pod": self.key, "error": str(error)})
                seconds = RETRY_SECONDS

    async def stop_for_shutdown(self, limit: float) -> None:
        """Stop all processes because the control plane stops; the next one takes the pod up again."""
        for container in self.containers:
            if container.run is not None and container.is_running:
                container.run.mark_stopped()
        await self._stop_all(min(limit, self._grace(self._pod)))

    async def _is_over(self) -> bool:
        """Whether the pod is gone, or is to go, and nothing of it is left here."""
        pod = self._world.pod(self.key, self.uid)
        if pod is None:
            await self._stop_all(FORCED_GRACE)
            self._clean_up()
            return True
        self._pod = pod
        deleted = pod["metadata"].get("deletionTimestamp")
        if not deleted and pod["spec"].get("nodeName") in self._world.own_nodes:
            return False
        await self._stop_all(self._grace(pod) if deleted else FORCED_GRACE)
        await self._end(pod)
        return False

    async def _end(self, pod: Object) -> None:
        """The processes are gone: say so, and let the object go."""
        if (pod.get("status") or {}).get("phase") not in FINAL:
            plan = plan_pod([], [c.view() for c in self.mains], "Never", self._world.config.clock())
            phase = plan.phase if plan.phase in FINAL else FAILED
            with contextlib.suppress(NotFound):
                await self._write_status(pod, Plan(phase, initialized=all(c.view().exit for c in self.inits)))
        await self._world.client.delete(PODS, self.name, self.namespace, uid=self.uid, grace_period=0)

    async def _sync(self) -> float | None:
        """One look at everything. Returns the seconds after which to look again, or None."""
        pod = self._pod
        if pod["metadata"].get("deletionTimestamp") or pod["spec"].get("nodeName") not in self._world.own_nodes:
            return None  # the deletion has been asked for; its event ends this worker
        if (pod.get("status") or {}).get("phase") in FINAL:
            return None
        overdue = self._seconds_to_deadline(pod)
        if overdue is not None and overdue <= 0:
            await self._stop_all(self._grace(pod))
            words = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            await self._write_status(pod, Plan(FAILED), *words)
            return None
        await self._stop_unhealthy()
        await self._refresh_volumes(pod)
        plan = self._plan(pod)
        if plan.start:
            await self._start(pod, plan.start)
            plan = self._plan(pod)
        await self._write_status(pod, plan)
        for name in plan.backing_off:
            await self._warn("BackOff", f"back-off restarting failed container {name} in pod {self.name}")
        if plan.phase in FINAL:
            return None
        return min((s for s in (plan.wake_in, overdue) if s is not None), default=None)

    def _plan(self, pod: Object) -> Plan:
        policy = pod["spec"].get("restartPolicy") or "Always"
        now = self._world.config.clock()
        plan = plan_pod([c.view() for c in self.inits], [c.view() for c in self.mains], policy, now)
        if plan.phase == PENDING and (pod.get("status") or {}).get("phase") == "Running":
            return Plan("Running", plan.start, plan.backing_off, plan.wake_in, plan.initialized)
        return plan

    async def _start(self, pod: Object, names: tuple[str, ...]) -> None:
        config = await self._world.configuration(self.namespace, self.references, fresh=True)
        facts = self._facts(pod)
        for container in self.containers:
            if container.name not in names:
                continue
            try:
                if self._folders is None:
                    self._folders = self._volumes.set_up(facts, config)
                number = container.run.number + 1 if container.run else 0
                spec = await self._launcher.spec(container.spec, number, facts, config, self._folders)
                container.start(spec, self.address, self.wake)
            except ContainerRefused as refused:
                container.refused = (refused.reason, refused.message)
                log.info(
                    "container waits", extra={"pod": self.key, "container": container.name, "why": refused.message}
                )
                await self._warn("Failed", f"container {container.name}: {refused.message}")
            else:
                log.info("container started", extra={"pod": self.key, "container": container.name})

    async def _refresh_volumes(self, pod: Object) -> None:
        """Bring changed ConfigMaps and Secrets to running containers. What is gone now keeps its last files."""
        if self._folders is None and not any(c.is_running for c in self.containers):
            return
        config = await self._world.configuration(self.namespace, self.references, fresh=False)
        try:
            self._folders = self._volumes.set_up(self._facts(pod), config)
        except ContainerRefused as refused:
            log.info("volumes kept as they are", extra={"pod": self.key, "why": refused.message})

    async def _stop_unhealthy(self) -> None:
        sick = [c for c in self.containers if c.is_running and c.health.unhealthy]
        for container in sick:
            why = container.health.unhealthy
            log.warning("container killed", extra={"pod": self.key, "container": container.name, "why": why})
            await self._warn("Unhealthy", f"container {container.name}: {why}")
        await asyncio.gather(*(container.stop(self._grace(self._pod)) for container in sick))

    async def _stop_all(self, grace: float) -> None:
        """Main containers first, then sidecars; each within the grace period."""
        await asyncio.gather(*(c.stop(grace) for c in self.mains))
        await asyncio.gather(*(c.stop(grace) for c in self.inits))

    async def _write_status(self, pod: Object, plan: Plan, reason: str = "", message: str = "") -> None:
        old = pod.get("status") or {}
        now = self._world.config.clock()
        report = PodReport(
            phase=plan.phase,
            pod_ip=self.address,
            start_time=old.get("startTime") or timestamp(now),
            initialized=plan.initialized,
            inits=[c.report(self._waiting(c, plan)) for c in self.inits],
            mains=[c.report(self._waiting(c, plan)) for c in self.mains],
            reason=reason,
            message=message,
            sidecars=frozenset(c.name for c in self.inits if c.is_sidecar),
        )
        known = self._written if self._written and self._world.pods.store.is_behind(self.key) else old
        status = render_status({**pod, "status": known}, report, now)
        if all(known.get(key) == value for key, value in status.items()):
            return
        body = {"metadata": {"uid": self.uid}, "status": status}
        with contextlib.suppress(Conflict):  # another life of the pod, or a newer status: an event follows
            written = await self._world.client.patch(PODS, self.name, body, self.namespace, subresource="status")
            self._written = written.get("status") or {}
            self._world.pods.store.observe_own_write(self.key, written["metadata"]["resourceVersion"])

    async def _warn(self, reason: str, message: str) -> None:
        about = Reference("v1", "Pod", self.name, self.uid, self.namespace)
        await self._world.events.record(about, "Warning", reason, message)

    def _waiting(self, container: Container, plan: Plan) -> tuple[str, str] | None:
        """Why a container that does not run is to wait; None when it ended for good."""
        if plan.phase in FINAL:
            return None
        if container.name in plan.backing_off:
            seconds = float(container.run.spec.get("backoff", 0)) if container.run else 0.0
            words = f"back-off {seconds:g}s restarting failed container={container.name} pod={self.name}"
            return "CrashLoopBackOff", words
        view = container.view()
        if view.exit is None:
            return ("PodInitializing", "") if self.inits else ("ContainerCreating", "")
        return None

    def _facts(self, pod: Object) -> PodFacts:
        capacity = self._world.capacity(pod["spec"].get("nodeName") or "")
        return PodFacts(pod, self.address, HOST_IP, capacity)

    def _grace(self, pod: Object) -> float:
        chosen = pod["metadata"].get("deletionGracePeriodSeconds")
        if chosen is None:
            chosen = pod["spec"].get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if chosen is None else float(chosen)

    def _seconds_to_deadline(self, pod: Object) -> float | None:
        limit, since = pod["spec"].get("activeDeadlineSeconds"), (pod.get("status") or {}).get("startTime")
        if limit is None or since is None:
            return None
        return float(limit) - (self._world.config.clock() - parse_time(since)).total_seconds()

    def _containers(self, field: str, *, is_init: bool) -> list[Container]:
        folder, config = self.folder / "containers", self._world.config
        specs: list[dict[str, Any]] = self._pod["spec"].get(field) or []
        return [Container(folder / spec["name"], spec, config, is_init=is_init) for spec in specs]

    def _prepare_folder(self, pod: Object) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("work", "tmp", "home", "volumes", "containers"):
            (self.folder / name).mkdir(exist_ok=True)
        if read_json(self.folder / "pod.json") is None:
            write_json(self.folder / "pod.json", pod)

    def _clean_up(self) -> None:
        self.release()
        self._world.addresses.free(self.uid)
        if self._world.memory is not None:
            self._world.memory.remove(self.uid)
        shutil.rmtree(self.folder, ignore_errors=True)


__all__ = ["ContainerReport", "PodWorker"]
