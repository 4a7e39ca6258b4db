"""Where a Service's port leads: ready addresses from its EndpointSlices, or from Endpoints where it has no slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaito.api.core import Service, ServicePort
from kaito.local.workloads.resources import Endpoints, EndpointSlice

Target = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True)
class ListenOn:
    """One port of a Service, and what is behind it."""

    address: str
    port: int
    targets: tuple[Target, ...]


def plan_listeners(
    service: Service, slices: Sequence[EndpointSlice], endpoints: Endpoints | None
) -> Mapping[int, ListenOn]:
    """By the Service's port number. Empty for headless Services, and for those that name no TCP port."""
    address = service.spec.clusterIP
    if address in ("", "None") or service.metadata.deletionTimestamp:
        return {}
    tcp = [port for port in service.spec.ports if port.protocol == "TCP"]
    return {port.port: ListenOn(address, port.port, _targets(port, slices, endpoints)) for port in tcp}


def _targets(port: ServicePort, slices: Sequence[EndpointSlice], endpoints: Endpoints | None) -> tuple[Target, ...]:
    if slices:
        found = [target for one in slices for target in _slice_targets(port, one)]
    else:
        found = [
            target for subset in (endpoints.subsets if endpoints else ()) for target in _subset_targets(port, subset)
        ]
    return tuple(sorted(set(found)))


def _slice_targets(port: ServicePort, endpoint_slice: EndpointSlice) -> list[Target]:
    numbers = [p["port"] for p in endpoint_slice.ports if (p.get("name") or "") == port.name and p.get("port")]
    ready = [e for e in endpoint_slice.endpoints if (e.get("conditions") or {}).get("ready", True) is not False]
    return [(address, number) for e in ready for address in e.get("addresses") or () for number in numbers]


def _subset_targets(port: ServicePort, subset: Mapping[str, Any]) -> list[Target]:
    numbers = [p["port"] for p in subset.get("ports") or () if (p.get("name") or "") == port.name]
    return [(a["ip"], number) for a in subset.get("addresses") or () for number in numbers]
