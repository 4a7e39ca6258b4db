"""Keeps the Endpoints and EndpointSlices of every Service: keyed by the Service, woken by Services and pods."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.api.core import Generic
from kaito.kube.controller import Controller
from kaito.kube.events import Reference
from kaito.kube.store import key_of, object_key, split_key
from kaito.local.workloads.controllers import LOOK_AGAIN, World
from kaito.local.workloads.endpoints import Observed, plan_endpoints
from kaito.local.workloads.resources import (
    ENDPOINT_SLICES,
    ENDPOINTS,
    LABEL_MANAGED_BY,
    LABEL_SERVICE_NAME,
    PODS,
    SERVICES,
    Endpoints,
    EndpointSlice,
)


class EndpointController:
    def __init__(self, world: World) -> None:
        informers = world.informers
        self._services = informers.of(SERVICES).store
        self._pods = informers.of(PODS).store
        self._endpoints = informers.of(ENDPOINTS).store
        self._slices = informers.of(ENDPOINT_SLICES).store
        self._writer = world.writer()
        self.controller = Controller("endpoints", self.reconcile)
        self.controller.watch(informers.of(SERVICES))
        self.controller.watch(informers.of(PODS), self._selecting)
        self.controller.watch(informers.of(ENDPOINTS), self._own_endpoints)
        self.controller.watch(informers.of(ENDPOINT_SLICES), _service_of_slice)

    async def reconcile(self, key: str) -> float | None:
        if self._writer.is_behind(key):
            return LOOK_AGAIN
        observed = self._observe(key)
        about = Reference("v1", "Service", observed.name, "", observed.namespace)
        await self._writer.act(key, about, plan_endpoints(observed))
        return None

    def _observe(self, key: str) -> Observed:
        namespace, name = split_key(key)
        service = self._services.get(key)
        pods = [pod for pod in self._pods.by_index("namespace", namespace) if service and selects(service, pod)]
        slices = [s for s in self._slices.by_index("namespace", namespace) if key in _service_of_slice(s)]
        return Observed(name, namespace, service, pods, self._endpoints.get(key), slices)

    def _selecting(self, pod: Generic) -> Iterable[str]:
        services = self._services.by_index("namespace", pod.metadata.namespace)
        return [key_of(service) for service in services if selects(service, pod)]

    def _own_endpoints(self, endpoints: Endpoints) -> Iterable[str]:
        """Endpoints of a Service with a selector, or of none: those that people keep by hand are not ours."""
        key = key_of(endpoints)
        service = self._services.get(key)
        return (key,) if service is not None and service.spec.get("selector") else ()


def selects(service: Generic, pod: Generic) -> bool:
    selector = service.spec.get("selector") or {}
    return bool(selector) and selector.items() <= pod.metadata.labels.items()


def _service_of_slice(endpoint_slice: EndpointSlice) -> Iterable[str]:
    labels = endpoint_slice.metadata.labels
    name = labels.get(LABEL_SERVICE_NAME)
    return (object_key(endpoint_slice.metadata.namespace, name),) if name and LABEL_MANAGED_BY in labels else ()
