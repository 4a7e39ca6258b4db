"""The process `kaito provisioner`: configuration, discovery of the claims that the cluster serves, and the run."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from kaito.api.core import Node
from kaito.api.karpenter import NodeClaim
from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.errors import KubeError, NotFound
from kaito.kube.informer import Informer
from kaito.kube.lease import LeaderElector
from kaito.kube.resources import NODES
from kaito.nodes import codecs
from kaito.nodes.claim import claim_key
from kaito.nodes.codecs import Codec
from kaito.nodes.errors import ConfigError
from kaito.nodes.garbage import GarbageCollector
from kaito.nodes.instances import IDLE_SECONDS, Instances
from kaito.nodes.lifecycle.world import BoundPod, Policy
from kaito.nodes.metrics import MeteredProvider
from kaito.nodes.providers.base import Provider
from kaito.nodes.reconciler import BOUND_PODS, Caches, Reconciler
from kaito.nodes.serving import Probes, serve_probes

log = logging.getLogger(__name__)

ProviderName = Literal["local", "simulated", "azure"]
DISCOVER_AGAIN = 2.0
WORKERS = 16


@dataclass(frozen=True)
class ProvisionerConfig:
    """How `kaito provisioner` runs. Times are durations; a port of 0 turns that server off."""

    kubeconfig: Path | None = None
    context: str | None = None
    provider: ProviderName = "local"
    faults: Path | None = None
    """Scenario file of the simulated provider."""
    leader_election: bool = False
    lease_namespace: str = "default"
    lease_name: str = "kaito-provisioner"
    launch_deadline: timedelta = timedelta(minutes=30)
    registration_deadline: timedelta = timedelta(minutes=15)
    unhealthy_after: timedelta = timedelta(minutes=10)
    delete_after_deadline: bool = True
    delete_without_capacity: bool = False
    repair: bool = True
    orphan_grace: timedelta = timedelta(seconds=30)
    list_every: timedelta = timedelta(seconds=IDLE_SECONDS)
    """How often the cloud is listed when nothing is under way."""
    discover_every: timedelta = timedelta(seconds=60)
    """How often to look whether the cluster serves more kinds of claims than before."""
    workers: int = WORKERS
    metrics_port: int = 0
    health_port: int = 0
    bind: str = ""
    """The address of these ports; empty: every address, of IPv4 and of IPv6, as a pod has them."""

    @property
    def policy(self) -> Policy:
        return Policy(
            launch_deadline=self.launch_deadline,
            registration_deadline=self.registration_deadline,
            unhealthy_after=self.unhealthy_after,
            orphan_grace=self.orphan_grace,
            delete_after_deadline=self.delete_after_deadline,
            delete_without_capacity=self.delete_without_capacity,
            repair=self.repair,
        )


async def run_provisioner(config: ProvisionerConfig) -> None:
    """Run until cancelled. Raises KubeError (no usable kubeconfig) and ProviderError (provider not usable) at once."""
    probes = Probes()
    async with (
        Client.connect(config.kubeconfig, config.context, field_manager="kaito-provisioner") as client,
        _provider(config, client) as provider,
        serve_probes(probes, config.bind, health_port=config.health_port, metrics_port=config.metrics_port),
    ):
        provisioner = Provisioner(client, provider, config, probes)
        if not config.leader_election:
            await provisioner.run()
            return
        identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"  # pods may share name and pid
        elector = LeaderElector(client, namespace=config.lease_namespace, name=config.lease_name, identity=identity)
        while True:
            probes.ready = True  # who stands by is ready to take over
            await elector.lead(provisioner.run)


@asynccontextmanager
async def _provider(config: ProvisionerConfig, client: Client) -> AsyncIterator[Provider]:
    provider = make_provider(config, client)
    try:
        yield provider
    finally:
        await provider.close()


def make_provider(config: ProvisionerConfig, client: Client) -> Provider:
    """The provider by its name; its libraries are imported only now. Raises ProviderError when it cannot be used."""
    if config.provider == "local":
        from kaito.nodes.providers.local.machine import read_machine
        from kaito.nodes.providers.local.provider import LocalProvider

        return LocalProvider(client, read_machine())
    if config.provider == "simulated":
        from kaito.nodes.providers.simulated.cloud import SimulatedCloud
        from kaito.nodes.providers.simulated.provider import SimulatedProvider
        from kaito.nodes.providers.simulated.scenario import CALM, load_scenario

        scenario = load_scenario(config.faults) if config.faults else CALM
        return SimulatedProvider(client, SimulatedCloud(scenario))
    return _azure_provider()


def _azure_provider() -> Provider:
    from kaito.nodes.providers.azure.config import read_config
    from kaito.nodes.providers.azure.provider import connect

    azure = read_config(os.environ)
    try:
        return connect(azure)
    except ImportError as error:
        message = f"the azure provider needs the Azure SDK, which is not installed ({error.name})"
        raise ConfigError(message, hint="install it with: pip install 'kaito[azure]'") from error


class Provisioner:
    """The controller with its caches, for one provider and one cluster."""

    def __init__(
        self, client: Client, provider: Provider, config: ProvisionerConfig, probes: Probes | None = None
    ) -> None:
        self._client = client
        self._provider = MeteredProvider(provider)
        self._config = config
        self._probes = probes or Probes()

    async def run(self) -> None:
        """Run until cancelled, with whichever kinds of claims the cluster serves, now or later."""
        self._probes.ready = False
        served = await self._wait_served()
        while True:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._work(served))
                served = await self._more_served(served)
                work.cancel()  # and begin again with fresh caches: nothing is kept that a restart would miss

    async def _more_served(self, served: list[Codec]) -> list[Codec]:
        """Returns when the cluster serves a kind, or a newer version of one, that it did not."""
        while True:
            await asyncio.sleep(self._config.discover_every.total_seconds())
            try:
                found = await served_codecs(self._client)
            except KubeError as error:
                log.debug("discovery failed", extra={"error": str(error)})
                continue
            if any(codec not in served for codec in found):
                return found

    async def _work(self, served: list[Codec]) -> None:
        log.info("watching", extra={"kinds": [codec.resource.api_version + "/" + codec.kind for codec in served]})
        instances = Instances(self._provider, idle_seconds=self._config.list_every.total_seconds())
        caches = self._caches(served)
        controller = self._controller(served, caches, instances)
        try:
            async with asyncio.TaskGroup() as group:
                for informer in caches.all():
                    group.create_task(informer.run())
                for informer in caches.all():
                    await informer.wait_synced()
                self._probes.ready = True
                group.create_task(self._provider.run())
                group.create_task(instances.run())
                group.create_task(self._collect(served, caches, instances))
                group.create_task(controller.run())
        finally:
            self._probes.ready = False
            await instances.close()

    async def _wait_served(self) -> list[Codec]:
        """Which claims there are; waits for an API server that is not up yet, and for CRDs that are not there yet."""
        said = ""
        while True:
            try:
                served = await served_codecs(self._client)
                problem = "the cluster serves neither NodeClaim nor Machine; `kaito crds --karpenter` prints them"
            except KubeError as error:
                served, problem = [], f"the cluster does not say which claims it serves: {error}"
            if served:
                return served
            if problem != said:
                log.warning(problem)
            said = problem
            await asyncio.sleep(DISCOVER_AGAIN)

    def _caches(self, served: Iterable[Codec]) -> Caches:
        claim_name = self._provider.claim_name

        def of_claim(node: Node) -> Iterable[str]:
            name = claim_name(node)
            return (name,) if name else ()

        def of_node(pod: BoundPod) -> Iterable[str]:
            return (pod.spec.nodeName,) if pod.spec.nodeName else ()

        return Caches(
            {codec.kind: Informer(self._client, codec.resource) for codec in served},
            Informer(self._client, NODES, indexes={"claim": of_claim}),
            Informer(self._client, BOUND_PODS, indexes={"node": of_node}),
        )

    def _controller(self, served: list[Codec], caches: Caches, instances: Instances) -> Controller:
        kinds = [codec.kind for codec in served]
        reconciler = Reconciler(self._client, self._provider, caches, served, instances, self._config.policy)
        controller = Controller("provisioner", reconciler.reconcile, workers=self._config.workers)

        def keys(name: str) -> list[str]:
            return [claim_key(kind, name) for kind in kinds if caches.claims[kind].store.get(name)]

        def of_node(node: Node) -> Iterable[str]:
            return keys(self._provider.claim_name(node))

        def of_pod(pod: BoundPod) -> Iterable[str]:
            """Pods matter only to a drain."""
            node = caches.nodes.store.get(pod.spec.nodeName) if pod.spec.nodeName else None
            names = of_node(node) if node is not None else ()
            return [key for key in names if _is_terminating(caches, key)]

        def changed(name: str) -> None:
            for key in keys(name):
                controller.queue.add(key)

        for kind in kinds:
            controller.watch(caches.claims[kind], partial(_own_key, kind))
        controller.watch(caches.nodes, of_node)
        controller.watch(caches.pods, of_pod)
        instances.listen(changed)
        return controller

    async def _collect(self, served: list[Codec], caches: Caches, instances: Instances) -> None:
        listed = asyncio.Event()
        instances.after_list(listed.set)
        collector = GarbageCollector(
            self._client,
            self._provider,
            instances,
            {codec.kind: codec.resource for codec in served},
            lambda: {kind: informer.store.keys() for kind, informer in caches.claims.items()},
            self._config.orphan_grace,
            lambda: datetime.now(UTC),
        )
        while True:
            await listed.wait()
            listed.clear()
            await collector.collect()


def _own_key(kind: str, claim: NodeClaim) -> Iterable[str]:
    return (claim_key(kind, claim.metadata.name),)


def _is_terminating(caches: Caches, key: str) -> bool:
    kind, _, name = key.partition("/")
    claim = caches.claims[kind].store.get(name)
    return claim is not None and claim.metadata.deletionTimestamp is not None


async def served_codecs(client: Client) -> list[Codec]:
    """The claims that the cluster serves, the newest version of each kind."""
    served = [codec for codec in codecs.ALL if await _is_served(client, codec)]
    return codecs.newest_of_each_kind(served)


async def _is_served(client: Client, codec: Codec) -> bool:
    """Asked by listing one: that also tells whether we may read them."""
    try:
        await client.request("discovery", "GET", codec.resource.path(), {"limit": "1"})
    except NotFound:
        return False
    return True
