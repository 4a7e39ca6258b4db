"""Follows Services and their endpoints, and keeps a listener for each port of each Service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kaito.api.core import Service
from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.errors import NotFound, Retryable
from kaito.kube.informer import Informer
from kaito.kube.resources import SERVICES, Resource
from kaito.kube.store import object_key, split_key
from kaito.local.proxy.listener import Listener, PortUnavailable
from kaito.local.proxy.targets import ListenOn, plan_listeners
from kaito.local.workloads.resources import ENDPOINT_SLICES, ENDPOINTS, LABEL_SERVICE_NAME, Endpoints, EndpointSlice

log = logging.getLogger(__name__)

ANNOTATION_BOUND_PORTS = "kaito.sh/bound-ports"
"""JSON: the Service's port -> the port that listens in its stead; only the ports that differ."""


class LoadBalancerStatus(msgspec.Struct, frozen=True):
    ingress: list[dict[str, Any]] = []


class ProxiedStatus(msgspec.Struct, frozen=True):
    loadBalancer: LoadBalancerStatus = LoadBalancerStatus()


class ProxiedService(Service, frozen=True):
    status: ProxiedStatus = ProxiedStatus()


PROXIED_SERVICES: Resource[ProxiedService] = Resource(
    SERVICES.group, SERVICES.version, SERVICES.plural, SERVICES.kind, True, ProxiedService
)


class ServiceProxy:
    """`run` it until cancelled; `bound` says what listens now."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._listeners: dict[str, dict[int, Listener]] = {}
        self._services = Informer(client, PROXIED_SERVICES)
        self._slices: Informer[EndpointSlice] = Informer(
            client, ENDPOINT_SLICES, indexes={"service": _service_of_slice}
        )
        self._endpoints: Informer[Endpoints] = Informer(client, ENDPOINTS)
        self._controller = Controller("service-proxy", self._reconcile)
        self._controller.watch(self._services)
        self._controller.watch(self._slices, _service_of_slice)
        self._controller.watch(self._endpoints)

    def bound(self, namespace: str, name: str) -> dict[int, tuple[str, int]]:
        """By the Service's port: the address and port that really listen. Empty when nothing does."""
        listeners = self._listeners.get(object_key(namespace, name), {})
        return {port: (listener.address, listener.real_port) for port, listener in listeners.items()}

    async def run(self) -> None:
        """Raises nothing but what cancels it; every listener is closed at the end."""
        try:
            async with asyncio.TaskGroup() as group:
                for informer in (self._services, self._slices, self._endpoints):
                    group.create_task(informer.run(), name=f"informer {informer.resource.plural}")
                group.create_task(self._controller.run(), name="service-proxy")
        finally:
            listeners = [listener for ports in self._listeners.values() for listener in ports.values()]
            self._listeners.clear()
            await asyncio.gather(*(listener.close() for listener in listeners))

    async def _reconcile(self, key: str) -> float | None:
        service = self._services.store.get(key)
        wanted = self._wanted(key, service)
        failure = await self._listen(key, wanted)
        if service is not None and wanted:
            await self._publish(key, service)
        if failure is not None:
            raise Retryable(str(failure)) from failure
        return None

    def _wanted(self, key: str, service: ProxiedService | None) -> Mapping[int, ListenOn]:
        if service is None:
            return {}
        slices = self._slices.store.by_index("service", key)
        return plan_listeners(service, slices, self._endpoints.store.get(key))

    async def _listen(self, key: str, wanted: Mapping[int, ListenOn]) -> PortUnavailable | None:
        """Close what is not wanted, open what is, and tell all of their targets. Returns what could not be bound."""
        listeners = self._listeners.setdefault(key, {})
        failure = None
        for port, listener in list(listeners.items()):
            if port not in wanted or wanted[port].address != listener.address:
                del listeners[port]
                await listener.close()
        for port, plan in wanted.items():
            try:
                if port not in listeners:
                    listeners[port] = Listener(plan.address, plan.port)
                await listeners[port].lead_to(plan.targets)
            except PortUnavailable as error:
                failure = error
        if not listeners:
            del self._listeners[key]
        return failure

    async def _publish(self, key: str, service: ProxiedService) -> None:
        """Tell the real ports where they differ from the spec, and the address of a LoadBalancer."""
        if self._services.store.is_behind(key):
            return
        moved = {str(port): real for port, (_, real) in self.bound(*split_key(key)).items() if real != port}
        annotation = json.dumps(moved) if moved else None
        if service.metadata.annotations.get(ANNOTATION_BOUND_PORTS) != annotation:
            await self._patch(key, {"metadata": {"annotations": {ANNOTATION_BOUND_PORTS: annotation}}})
        ingress = [{"ip": service.spec.clusterIP}] if service.spec.type == "LoadBalancer" else []
        if _addresses(service.status.loadBalancer.ingress) != _addresses(ingress):
            await self._patch(key, {"status": {"loadBalancer": {"ingress": ingress}}}, "status")

    async def _patch(self, key: str, body: dict[str, Any], subresource: str = "") -> None:
        namespace, name = split_key(key)
        try:
            patched = await self._client.patch(PROXIED_SERVICES, name, body, namespace, subresource=subresource)
        except NotFound:
            return
        self._services.store.observe_own_write(key, patched.metadata.resourceVersion)


def _addresses(ingress: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(entry.get("ip", "")) for entry in ingress]


def _service_of_slice(endpoint_slice: EndpointSlice) -> Iterable[str]:
    name = endpoint_slice.metadata.labels.get(LABEL_SERVICE_NAME)
    return (object_key(endpoint_slice.metadata.namespace, name),) if name else ()


def bound_ports(service: Service) -> dict[int, int]:
    """The Service's ports and those that listen in their stead, as `ServiceProxy` published them."""
    told = json.loads(service.metadata.annotations.get(ANNOTATION_BOUND_PORTS) or "{}")
    return {port.port: int(told.get(str(port.port), port.port)) for port in service.spec.ports}
