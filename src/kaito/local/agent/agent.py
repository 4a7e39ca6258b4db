"""The node agent: kubelet for every Node of this machine, in one task per pod."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.events import EventRecorder
from kaito.kube.informer import Informer
from kaito.local.agent.backend import AgentBackend
from kaito.local.agent.cgroups import find_memory_groups
from kaito.local.agent.claims import ClaimKeeper
from kaito.local.agent.config import AgentConfig
from kaito.local.agent.node import NodeRegistrar, is_local
from kaito.local.agent.pod import PodWorker
from kaito.local.agent.sweep import stop_pod_folder
from kaito.local.agent.world import CLAIMS, CONFIG_MAPS, NODES, PODS, SECRETS, Addresses, Object, World

log = logging.getLogger(__name__)

STRAY_GRACE = 2.0


class NodeAgent:
    """`run` it until cancelled; pods go on when it ends, and the next agent adopts them. `stop_pods` ends them."""

    def __init__(self, client: Client, config: AgentConfig) -> None:
        self._config = config
        self._own_nodes: set[str] = set()
        config_maps, secrets = Informer(client, CONFIG_MAPS), Informer(client, SECRETS)
        self._claims = Informer(client, CLAIMS)
        self._world = World(
            client=client,
            config=config,
            nodes=Informer(client, NODES),
            pods=Informer(client, PODS),
            informers={"ConfigMap": config_maps, "Secret": secrets},
            addresses=Addresses(config.pod_network),
            memory=find_memory_groups(config.cgroups),
            events=EventRecorder(client, "kubelet", config.clock),
            own_nodes=self._own_nodes,
        )
        self._registrar = NodeRegistrar(client, config, self._world.nodes.store)
        self._workers: dict[str, PodWorker] = {}
        """By pod uid."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.backend = AgentBackend(self._find, config)

    @property
    def node_name(self) -> str:
        return self._registrar.name

    async def run(self) -> None:
        """Serve until cancelled. A failure of any part ends it with an exception: nothing dies in silence."""
        self._config.pods.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._world.addresses.remember(self._config.pods.iterdir())
        self._world.nodes.listen(self._node_changed)
        self._world.pods.listen(self._pod_changed)
        for kind, informer in self._world.informers.items():
            informer.listen(self._configuration_changed(kind))
        nodes = Controller("nodes", self._sync_node, workers=1)
        nodes.watch(self._world.nodes)
        claims = ClaimKeeper(self._world.client, self._claims, self._config.home / "volumes")
        try:
            async with asyncio.TaskGroup() as group:
                await self._sync_caches(group)
                self._group = group
                await self._registrar.register()
                self._adopt()
                group.create_task(nodes.run(), name="nodes")
                group.create_task(claims.controller.run(), name="claims")
                group.create_task(self._registrar.renew_leases(self._own_nodes), name="node leases")
        finally:
            self._group = None
            for worker in self._workers.values():
                worker.release()

    async def stop_pods(self, limit: float) -> None:
        """Stop every process within its grace period and `limit` seconds. The pods stay in the API, to be taken up."""
        for task in self._tasks.values():
            task.cancel()
        workers = list(self._workers.values())
        await asyncio.gather(*(worker.stop_for_shutdown(limit) for worker in workers))

    async def _sync_caches(self, group: asyncio.TaskGroup) -> None:
        informers: list[Informer[Any]] = [
            *(self._world.nodes, self._world.pods, self._claims),
            *self._world.informers.values(),
        ]
        for informer in informers:
            group.create_task(informer.run(), name=f"informer of {informer.resource.plural}")
        await asyncio.gather(*(informer.wait_synced() for informer in informers))

    def _adopt(self) -> None:
        """Take up the pods that the API has, and end the processes of those that it has no more."""
        for pod in self._world.pods.store.values():
            self._pod_changed(None, pod)
        for folder in self._config.pods.iterdir():
            if folder.name not in self._workers:
                self._start_task(self._end_stray(folder), f"stray pod {folder.name}")

    async def _end_stray(self, folder: Path) -> None:
        log.info("ending a pod that the API has no more", extra={"uid": folder.name})
        await asyncio.to_thread(stop_pod_folder, folder, STRAY_GRACE, remove=True)
        if self._world.memory is not None:
            self._world.memory.remove(folder.name)

    def _find(self, namespace: str, name: str) -> PodWorker | None:
        return next((w for w in self._workers.values() if (w.namespace, w.name) == (namespace, name)), None)

    async def _sync_node(self, name: str) -> None:
        await self._registrar.sync(name)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        node = new or old
        assert node is not None
        name = node["metadata"]["name"]
        was_ours = name in self._own_nodes
        if new is not None and is_local(new):
            self._own_nodes.add(name)
        else:
            self._own_nodes.discard(name)
        if was_ours != (name in self._own_nodes):
            for pod in self._world.pods.store.values():
                if pod["spec"].get("nodeName") == name:
                    self._pod_changed(None, pod)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is not None and pod["metadata"]["uid"] in self._workers:
                self._workers[pod["metadata"]["uid"]].wake()
        if new is None or self._group is None or new["spec"].get("nodeName") not in self._own_nodes:
            return
        uid = new["metadata"]["uid"]
        if uid not in self._workers:
            worker = PodWorker(self._world, new)
            self._workers[uid] = worker
            self._tasks[uid] = self._start_task(self._run_pod(worker), f"pod {worker.key}")

    async def _run_pod(self, worker: PodWorker) -> None:
        await worker.run()
        del self._workers[worker.uid], self._tasks[worker.uid]

    def _start_task(self, work: Any, name: str) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work, name=name)

    def _configuration_changed(self, kind: str) -> Any:
        def changed(old: Object | None, new: Object | None) -> None:
            metadata = (new or old or {})["metadata"]
            for worker in self._workers.values():
                if worker.namespace == metadata["namespace"] and (kind, metadata["name"]) in worker.references:
                    worker.wake()

        return changed
