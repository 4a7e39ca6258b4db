"""The process behind `kaito operator`: informers, workers, the progress poller, leader election, health and metrics."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args

from prometheus_client import REGISTRY

from kaito import __version__
from kaito.api.validation import NodeMode
from kaito.kube.client import Client, wait_reachable
from kaito.kube.errors import ConfigError, KubeError
from kaito.kube.lease import DEADLINE, DURATION, RETRY, LeaderElector
from kaito.kube.limit import RateLimit
from kaito.workspace.admission import AdmissionConfig, run_admission
from kaito.workspace.caches import Caches, labelled_key
from kaito.workspace.controller import WorkspaceController
from kaito.workspace.health import serve_health
from kaito.workspace.metrics import WorkspaceCollector
from kaito.workspace.names import FIELD_MANAGER
from kaito.workspace.node_api import NodeApi, find_node_api
from kaito.workspace.poller import Poller
from kaito.workspace.settings import CLOUD_NODE_CLASSES, NodeClass, Settings

log = logging.getLogger(__name__)

NODE_API_PAUSE = 15.0
"""Seconds between two looks for the node API of a cluster that serves none yet."""
LEASE = "kaito-workspace"
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
ENGINES = ("auto", "vllm", "transformers")
DEFAULT_RUNTIME_IMAGE = f"kaito/runtime:{__version__}"


@dataclass(frozen=True)
class OperatorConfig:
    """The flags of `kaito operator`. Port 0 means: do not listen. Raises ConfigError for a value that is none."""

    kubeconfig: Path | None = None
    context: str | None = None
    nodes: str = "gpu-provisioner"
    """How nodes come: gpu-provisioner, karpenter or byo."""
    node_api: str = "auto"
    """What nodes are asked for by: auto, nodeclaim-v1, nodeclaim-v1beta1, machine; with Karpenter nodepool too."""
    runtime_image: str = DEFAULT_RUNTIME_IMAGE
    allow_data_from: Sequence[str] = ()
    """CIDRs of private networks that data URLs may point to."""
    namespace: str = ""
    """The one namespace to watch; empty for all."""
    progress_interval: float = 10.0
    """Seconds between two questions to a step at work."""
    engine: str = "auto"
    pull_secrets: Sequence[str] = ()
    """Secrets in the Workspaces' namespaces that open the registry of the runtime image."""
    insecure_registries: Sequence[str] = ()
    """Registries, as host or host:port, that pods may speak to over plain http."""
    weights_storage_class: str = ""
    """Of the volumes that weights are fetched into; empty: the node's own disk."""
    node_classes: Sequence[str] = ()
    host: str = ""
    """The address of the ports; empty: every address, of IPv4 and of IPv6, as a pod has them."""
    metrics_port: int = 0
    health_port: int = 0
    webhook_port: int = 0
    """Where the admission server listens."""
    webhook_service: str = "kaito-operator"
    """The Service in front of it, in the operator's namespace; empty: the API server calls localhost."""
    leader_election: bool = False
    lease_namespace: str = "kaito-system"
    """The operator's own namespace: of its Lease, of the admission server's certificate, of the default configs."""
    lease_duration: float = DURATION
    """Seconds of silence after which another replica takes over."""
    node_class: str = ""
    """For claims in the karpenter mode, as group/version/kind/name; empty: the cloud's default one."""
    cloud: str = ""
    """azure, aws or gcp; empty is azure."""
    workers: int = 16
    kube_client_qps: float = 0.0
    """Requests a second to the API server; 0: as many as it takes."""
    kube_client_burst: int = 50
    patience: float = 60.0
    """Seconds to wait for the API server at the start."""

    def __post_init__(self) -> None:
        _one_of("nodes", self.nodes, get_args(NodeMode))
        _one_of("node-api", self.node_api, get_args(NodeApi))
        if self.node_api == "nodepool" and self.nodes != "karpenter":
            raise ConfigError("--node-api: nodepool needs Karpenter; use it with --nodes karpenter")
        if self.lease_duration <= 0:
            raise ConfigError(f"--lease-duration: {self.lease_duration:g} s is no time; use 12 or so")
        _one_of("engine", self.engine, ENGINES)
        _one_of("cloud", self.cloud, ("", *CLOUD_NODE_CLASSES))
        if self.node_class:
            _node_class(self.node_class)
        for registry in self.insecure_registries:
            if not _HOST.fullmatch(registry):
                raise ConfigError(f'--insecure-registry: "{registry}" is no registry; write it as host:5000')
        for network in self.allow_data_from:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise ConfigError(f'--allow-data-from: "{network}" is not a network; write it as 10.0.0.0/8') from error

    @property
    def settings(self) -> Settings:
        return Settings(
            node_mode=cast(NodeMode, self.nodes),
            runtime_image=self.runtime_image,
            allow_data_from=tuple(self.allow_data_from),
            node_classes=tuple(self.node_classes),
            engine=self.engine,
            pull_secrets=tuple(self.pull_secrets),
            insecure_registries=tuple(self.insecure_registries),
            weights_storage_class=self.weights_storage_class,
            node_class=_node_class(self.node_class) if self.node_class else CLOUD_NODE_CLASSES[self.cloud or "azure"],
            uses_pools=self.node_api == "nodepool",
            own_namespace=self.lease_namespace,
        )


async def run_operator(config: OperatorConfig) -> None:
    """Run until cancelled. Raises ConfigError without a usable kubeconfig, Unreachable without an API server."""
    async with AsyncExitStack() as stack:
        limit = RateLimit(config.kube_client_qps, config.kube_client_burst)
        client = Client.connect(config.kubeconfig, config.context, field_manager=FIELD_MANAGER, limit=limit)
        await stack.enter_async_context(client)
        await wait_reachable(client, patience=config.patience)
        operator = Operator(client, config)
        collector = WorkspaceCollector(operator.caches.workspaces.store.values, client.calls, operator.caches.orphans)
        REGISTRY.register(collector)
        stack.callback(REGISTRY.unregister, collector)
        webhook = asyncio.Event()
        if not config.webhook_port:
            webhook.set()
        await serve_health(
            stack,
            lambda: webhook.is_set() and operator.is_ready(),
            config.host,
            config.health_port,
            config.metrics_port,
        )
        admission = asyncio.ensure_future(_run_admission(client, config, webhook))
        try:
            await _run_as_leader(client, config, operator)
        finally:
            admission.cancel()
            await asyncio.gather(admission, return_exceptions=True)


async def _run_as_leader(client: Client, config: OperatorConfig, operator: Operator) -> None:
    """Returns when the leadership is lost: the process then ends, and its successor starts afresh."""
    if not config.leader_election:
        await operator.run()
        return
    identity = f"{socket.gethostname()}-{os.getpid()}"
    elector = LeaderElector(
        client,
        namespace=config.lease_namespace,
        name=LEASE,
        identity=identity,
        duration=config.lease_duration,
        deadline=config.lease_duration * DEADLINE / DURATION,
        retry=config.lease_duration * RETRY / DURATION,
    )
    await elector.lead(operator.run)


async def _run_admission(client: Client, config: OperatorConfig, listening: asyncio.Event) -> None:
    """Every replica answers the webhook, not only the leader."""
    if config.webhook_port:
        where = AdmissionConfig(config.host, config.webhook_port, config.webhook_service, config.lease_namespace)
        await run_admission(client, config.settings, where, listening=lambda port: listening.set())


def _one_of(flag: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f'--{flag}: "{value}" is not one of {", ".join(allowed)}')


def _node_class(text: str) -> NodeClass:
    parts = text.split("/")
    if len(parts) != 4 or not all(parts):
        hint = "write it as group/version/kind/name, such as karpenter.azure.com/v1beta1/AKSNodeClass/default"
        raise ConfigError(f'--node-class: "{text}" is not a reference; {hint}')
    return NodeClass(*parts)


class Operator:
    """The controller with all that it needs, on a client that somebody else closes. It runs once it leads."""

    def __init__(
        self, client: Client, config: OperatorConfig, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._client = client
        self._config = config
        self._is_at_work = False
        self.caches = Caches(client, config.namespace, now, own_namespace=config.lease_namespace)
        self.workspaces = WorkspaceController(client, self.caches, config.settings, workers=config.workers, now=now)
        self._poller = Poller(
            client,
            self.caches.pods.store,
            self.caches.progress,
            labelled_key,
            self.workspaces.controller.queue.add,
            interval=config.progress_interval,
            now=now,
        )

    def is_ready(self) -> bool:
        """Whether every cache has been filled once, or another replica leads: who stands by is ready to take over."""
        stands_by = self._config.leader_election and not self._is_at_work
        return stands_by or all(informer.is_synced for informer in self.caches.always)

    async def run(self) -> None:
        self._is_at_work = True
        await self._look_for_node_api()
        await self.caches.legacy.look(self._client, self._config.namespace)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.caches.run())
            group.create_task(self.workspaces.controller.run())
            group.create_task(self._poller.run())
            if self.caches.claims is None and self._config.nodes != "byo":
                group.create_task(self._await_node_api())

    async def _await_node_api(self) -> None:
        while self.caches.claims is None:
            await asyncio.sleep(NODE_API_PAUSE)
            await self._look_for_node_api()

    async def _look_for_node_api(self) -> None:
        if self._config.nodes == "byo":
            return
        try:
            resource = await find_node_api(self._client, cast(NodeApi, self._config.node_api))
        except KubeError as error:
            log.warning("discovery failed", extra={"error": str(error)})
            return
        if resource is None:
            log.warning("no node API is served", extra={"wanted": self._config.node_api})
            return
        log.info("node API", extra={"kind": resource.kind, "version": resource.version})
        self.caches.use_claims(resource, pools=self._config.node_api == "nodepool")
        self.workspaces.watch_claims()
