"""Endpoints and EndpointSlices: the addresses behind a Service, from its selector and the pods.

One slice per Service, which is plenty for one machine. A Service without a selector is left alone: its addresses are
somebody else's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kaito.api.core import Generic
from kaito.local.workloads.objects import controller_reference, is_finished, is_ready, is_terminating
from kaito.local.workloads.plan import Action, Create, Patch, Plan, delete
from kaito.local.workloads.resources import (
    ENDPOINT_SLICES,
    ENDPOINTS,
    LABEL_MANAGED_BY,
    LABEL_SERVICE_NAME,
    SERVICES,
    Endpoints,
    EndpointSlice,
)

MANAGED_BY = "endpointslice-controller.k8s.io"

PortSet = tuple[tuple[str, int, str], ...]
"""(name, number, protocol) of each port, as one pod offers them."""


@dataclass(frozen=True)
class Observed:
    name: str
    namespace: str
    service: Generic | None
    pods: Sequence[Generic]
    """The pods that the Service selects."""
    endpoints: Endpoints | None
    slices: Sequence[EndpointSlice]


def plan_endpoints(observed: Observed) -> Plan:
    service = observed.service
    if service is None:
        return Plan(_forget(observed))
    if not service.spec.get("selector") or service.metadata.deletionTimestamp:
        return Plan()
    pods = sorted((pod for pod in observed.pods if _is_listed(pod)), key=lambda pod: pod.metadata.name)
    return Plan((*_write_endpoints(observed, service, pods), *_write_slices(observed, service, pods)))


def slice_name(service: str) -> str:
    return f"{service[:57]}-{hashlib.sha256(service.encode()).hexdigest()[:5]}"


def _forget(observed: Observed) -> tuple[Action, ...]:
    """Slices go with their owner, the Service; Endpoints have none."""
    return (delete(ENDPOINTS, observed.endpoints.metadata),) if observed.endpoints else ()


def _is_listed(pod: Generic) -> bool:
    return bool(pod.status.get("podIP")) and not is_finished(pod)


def _write_endpoints(observed: Observed, service: Generic, pods: Sequence[Generic]) -> tuple[Action, ...]:
    subsets = _subsets(service, pods)
    name, namespace = observed.name, observed.namespace
    if observed.endpoints is None:
        body = {"metadata": {"name": name, "labels": _labels(service)}, "subsets": subsets}
        return (Create(ENDPOINTS, namespace, body, if_absent=True),)
    if observed.endpoints.subsets == subsets:
        return ()
    return (Patch(ENDPOINTS, namespace, name, {"subsets": subsets}),)


def _write_slices(observed: Observed, service: Generic, pods: Sequence[Generic]) -> tuple[Action, ...]:
    name, namespace = slice_name(observed.name), observed.namespace
    ports = _slice_ports(service, pods)
    endpoints = [_endpoint(service, pod) for pod in pods]
    existing = next((s for s in observed.slices if s.metadata.name == name), None)
    if existing is None:
        labels = {**_labels(service), LABEL_SERVICE_NAME: observed.name, LABEL_MANAGED_BY: MANAGED_BY}
        body = {
            "metadata": {
                "name": name,
                "labels": labels,
                "ownerReferences": [controller_reference(SERVICES, service.metadata)],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        }
        return (Create(ENDPOINT_SLICES, namespace, body, if_absent=True),)
    if (existing.endpoints, existing.ports) == (endpoints, ports):
        return ()
    return (Patch(ENDPOINT_SLICES, namespace, name, {"endpoints": endpoints, "ports": ports}),)


def _labels(service: Generic) -> dict[str, str]:
    headless = {"service.kubernetes.io/headless": ""} if service.spec.get("clusterIP") == "None" else {}
    return {**service.metadata.labels, **headless}


def _subsets(service: Generic, pods: Sequence[Generic]) -> list[dict[str, Any]]:
    """Addresses, grouped by the ports that their pods offer: a named port may be another number in each pod."""
    groups: dict[PortSet, list[Generic]] = {}
    for pod in pods:
        groups.setdefault(_ports(service, pod), []).append(pod)
    subsets = []
    for ports, members in sorted(groups.items()):
        ready = [_address(service, pod) for pod in members if _is_offered(service, pod)]
        others = [
            _address(service, pod) for pod in members if not _is_offered(service, pod) and not is_terminating(pod)
        ]
        if not ready and not others:
            continue
        subset: dict[str, Any] = {"addresses": ready, "notReadyAddresses": others, "ports": _port_list(ports)}
        subsets.append({key: value for key, value in subset.items() if value})
    return subsets


def _is_offered(service: Generic, pod: Generic) -> bool:
    return is_ready(pod) or bool(service.spec.get("publishNotReadyAddresses"))


def _ports(service: Generic, pod: Generic) -> PortSet:
    """The Service's ports as numbers in this pod; a name that the pod does not have is left out."""
    ports = []
    for port in service.spec.get("ports") or ():
        number = _target(port, pod)
        if number:
            ports.append((str(port.get("name") or ""), number, str(port.get("protocol") or "TCP")))
    return tuple(ports)


def _target(port: dict[str, Any], pod: Generic) -> int:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    if target.isdigit():
        return int(target)
    protocol = port.get("protocol") or "TCP"
    for container in pod.spec.get("containers") or ():
        for offered in container.get("ports") or ():
            if offered.get("name") == target and (offered.get("protocol") or "TCP") == protocol:
                return int(offered["containerPort"])
    return 0


def _port_list(ports: PortSet) -> list[dict[str, Any]]:
    return [{**({"name": name} if name else {}), "port": number, "protocol": kind} for name, number, kind in ports]


def _slice_ports(service: Generic, pods: Sequence[Generic]) -> list[dict[str, Any]]:
    """The ports of the pods that have the most of them: a slice has one list for all its endpoints."""
    ports = max((_ports(service, pod) for pod in pods), key=len, default=())
    return [{"name": name, "port": number, "protocol": kind} for name, number, kind in ports]


def _reference(pod: Generic) -> dict[str, str]:
    metadata = pod.metadata
    return {"kind": "Pod", "namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid}


def _hostname(service: Generic, pod: Generic) -> dict[str, str]:
    named = pod.spec.get("hostname") and pod.spec.get("subdomain") == service.metadata.name
    return {"hostname": pod.spec["hostname"]} if named else {}


def _address(service: Generic, pod: Generic) -> dict[str, Any]:
    node = pod.spec.get("nodeName")
    return {
        "ip": pod.status["podIP"],
        **_hostname(service, pod),
        **({"nodeName": node} if node else {}),
        "targetRef": _reference(pod),
    }


def _endpoint(service: Generic, pod: Generic) -> dict[str, Any]:
    published = bool(service.spec.get("publishNotReadyAddresses"))
    terminating = is_terminating(pod)
    serving = published or is_serving(pod)
    node = pod.spec.get("nodeName")
    return {
        "addresses": [pod.status["podIP"]],
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        **_hostname(service, pod),
        **({"nodeName": node} if node else {}),
        "targetRef": _reference(pod),
    }


def is_serving(pod: Generic) -> bool:
    """Ready by its own word, even when it is already being deleted."""
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in pod.status.get("conditions") or ())
