"""The rows of the core kinds: nodes, namespaces, services, configuration, storage, events."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from kaito.local.machinery.ages import age
from kaito.local.machinery.printing import (
    NONE,
    UNSET,
    Printer,
    columns,
    count,
    created,
    format_labels,
    items,
    join,
    name,
    or_none,
    section,
    texts,
)

Json = dict[str, Any]

_ROLE_PREFIX: Final = "node-role.kubernetes.io/"
_ACCESS_MODES: Final = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
_ENDPOINTS_SHOWN: Final = 3


def _node(obj: Json, now: datetime) -> list[Any]:
    info = section(obj, "status", "nodeInfo")
    addresses = {item.get("type"): item.get("address") for item in reversed(items(obj, "status", "addresses"))}
    return [
        name(obj),
        _node_status(obj),
        _roles(section(obj, "metadata", "labels")),
        created(obj, now),
        str(info.get("kubeletVersion", "")),
        or_none(addresses.get("InternalIP")),
        or_none(addresses.get("ExternalIP")),
        str(info.get("osImage") or "<unknown>"),
        str(info.get("kernelVersion") or "<unknown>"),
        str(info.get("containerRuntimeVersion") or "<unknown>"),
    ]


def _node_status(obj: Json) -> str:
    ready = next((item for item in items(obj, "status", "conditions") if item.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if section(obj, "spec").get("unschedulable") is True:
        words.append("SchedulingDisabled")
    return join(words)


def _roles(labels: Json) -> str:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    if labels.get("kubernetes.io/role"):
        roles.add(str(labels["kubernetes.io/role"]))
    return join(sorted(role for role in roles if role)) or NONE


def _namespace(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), str(section(obj, "status").get("phase", "")), created(obj, now)]


def _service(obj: Json, now: datetime) -> list[Any]:
    spec = section(obj, "spec")
    addresses = texts(spec.get("clusterIPs"))
    return [
        name(obj),
        str(spec.get("type") or "ClusterIP"),
        addresses[0] if addresses else or_none(spec.get("clusterIP")),
        _external_addresses(obj, spec),
        _service_ports(spec),
        created(obj, now),
        format_labels(spec.get("selector")),
    ]


def _external_addresses(obj: Json, spec: Json) -> str:
    given = texts(spec.get("externalIPs"))
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") == "LoadBalancer":
        ingress = items(obj, "status", "loadBalancer", "ingress")
        found = [str(item.get("ip") or item.get("hostname")) for item in ingress]
        return join([*found, *given]) or "<pending>"
    return join(given) or NONE


def _service_ports(spec: Json) -> str:
    shown: list[str] = []
    for port in items(spec, "ports"):
        number = f"{port.get('port')}:{port['nodePort']}" if port.get("nodePort") else f"{port.get('port')}"
        shown.append(f"{number}/{port.get('protocol', 'TCP')}")
    return join(shown) or NONE


def _endpoints(obj: Json, now: datetime) -> list[Any]:
    found: list[str] = []
    for subset in items(obj, "subsets"):
        ports = items(subset, "ports")
        for address in items(subset, "addresses"):
            found.extend(f"{address.get('ip')}:{port.get('port')}" for port in ports)
            if not ports:
                found.append(str(address.get("ip")))
    return [name(obj), _shortened(found), created(obj, now)]


def _shortened(found: list[str]) -> str:
    more = f" + {len(found) - _ENDPOINTS_SHOWN} more..." if len(found) > _ENDPOINTS_SHOWN else ""
    return (join(found[:_ENDPOINTS_SHOWN]) + more) or NONE


def _endpoint_slice(obj: Json, now: datetime) -> list[Any]:
    ports = [str(port.get("port", "*")) for port in items(obj, "ports")]
    addresses = [address for endpoint in items(obj, "endpoints") for address in texts(endpoint.get("addresses"))]
    shown = _shortened(addresses) if addresses else UNSET
    return [name(obj), str(obj.get("addressType", "")), _shortened(ports) if ports else UNSET, shown, created(obj, now)]


def _config_map(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), count(obj.get("data")) + count(obj.get("binaryData")), created(obj, now)]


def _secret(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), str(obj.get("type", "")), count(obj.get("data")), created(obj, now)]


def _service_account(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), created(obj, now)]


def _event(obj: Json, now: datetime) -> list[Any]:
    involved = section(obj, "involvedObject") or section(obj, "regarding")
    source = section(obj, "source") or section(obj, "deprecatedSource")
    series = section(obj, "series")
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    reporter = str(source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or "")
    host = str(source.get("host") or "")
    return [
        age(last, now),
        str(obj.get("type", "")),
        str(obj.get("reason", "")),
        f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}",
        str(involved.get("fieldPath", "")),
        f"{reporter}, {host}" if host else reporter,
        str(obj.get("message") or obj.get("note") or "").strip(),
        age(first, now),
        series.get("count") or obj.get("count") or obj.get("deprecatedCount") or 1,
        name(obj),
    ]


def _access_modes(modes: Any) -> str:
    return join(_ACCESS_MODES.get(mode, mode) for mode in dict.fromkeys(texts(modes)))


def _claim(obj: Json, now: datetime) -> list[Any]:
    spec, status = section(obj, "spec"), section(obj, "status")
    deleting = section(obj, "metadata").get("deletionTimestamp")
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        "Terminating" if deleting else str(status.get("phase", "")),
        str(spec.get("volumeName", "")),
        str(section(status, "capacity").get("storage", "")) if bound else "",
        _access_modes(status.get("accessModes")) if bound else "",
        str(spec.get("storageClassName") or ""),
        str(spec.get("volumeAttributesClassName") or UNSET),
        created(obj, now),
        str(spec.get("volumeMode") or UNSET),
    ]


def _volume(obj: Json, now: datetime) -> list[Any]:
    spec, status = section(obj, "spec"), section(obj, "status")
    claim = section(spec, "claimRef")
    deleting = section(obj, "metadata").get("deletionTimestamp")
    return [
        name(obj),
        str(section(spec, "capacity").get("storage", "")),
        _access_modes(spec.get("accessModes")),
        str(spec.get("persistentVolumeReclaimPolicy", "")),
        "Terminating" if deleting else str(status.get("phase", "")),
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        str(spec.get("storageClassName") or ""),
        str(spec.get("volumeAttributesClassName") or UNSET),
        str(status.get("reason", "")),
        created(obj, now),
        str(spec.get("volumeMode") or UNSET),
    ]


def _storage_class(obj: Json, now: datetime) -> list[Any]:
    default = section(obj, "metadata", "annotations").get(_DEFAULT_CLASS) == "true"
    return [
        f"{name(obj)} (default)" if default else name(obj),
        str(obj.get("provisioner", "")),
        str(obj.get("reclaimPolicy") or "Delete"),
        str(obj.get("volumeBindingMode") or "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        created(obj, now),
    ]


def _quota(obj: Json, now: datetime) -> list[Any]:
    hard, used = section(obj, "status", "hard"), section(obj, "status", "used")
    shown = {key: f"{key}: {used.get(key, 0)}/{limit}" for key, limit in sorted(hard.items())}
    limits = join((text for key, text in shown.items() if key.startswith("limits.")), ", ")
    requests = join((text for key, text in shown.items() if not key.startswith("limits.")), ", ")
    return [name(obj), requests, limits, created(obj, now)]


def _created_at(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), str(section(obj, "metadata").get("creationTimestamp", ""))]


PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    ("", "Node"): Printer(
        columns(
            "Name, Status, Roles, Age, Version, Internal-IP*, External-IP*, OS-Image*, Kernel-Version*, "
            "Container-Runtime*"
        ),
        _node,
    ),
    ("", "Namespace"): Printer(columns("Name, Status, Age"), _namespace),
    ("", "Service"): Printer(columns("Name, Type, Cluster-IP, External-IP, Port(s), Age, Selector*"), _service),
    ("", "Endpoints"): Printer(columns("Name, Endpoints, Age"), _endpoints),
    ("discovery.k8s.io", "EndpointSlice"): Printer(
        columns("Name, AddressType, Ports, Endpoints, Age"), _endpoint_slice
    ),
    ("", "ConfigMap"): Printer(columns("Name, Data, Age"), _config_map),
    ("", "Secret"): Printer(columns("Name, Type, Data, Age"), _secret),
    ("", "ServiceAccount"): Printer(columns("Name, Age"), _service_account),
    ("", "PersistentVolumeClaim"): Printer(
        columns("Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, VolumeMode*"),
        _claim,
    ),
    ("", "PersistentVolume"): Printer(
        columns(
            "Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, "
            "Age, VolumeMode*"
        ),
        _volume,
    ),
    ("storage.k8s.io", "StorageClass"): Printer(
        columns("Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age"),
        _storage_class,
    ),
    ("", "ResourceQuota"): Printer(columns("Name, Request, Limit, Age"), _quota),
    ("", "LimitRange"): Printer(columns("Name, Created At:date"), _created_at),
    ("rbac.authorization.k8s.io", "Role"): Printer(columns("Name, Created At:date"), _created_at),
    ("rbac.authorization.k8s.io", "ClusterRole"): Printer(columns("Name, Created At:date"), _created_at),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Printer(columns("Name, Created At:date"), _created_at),
}
_EVENT: Final = Printer(
    columns("Last Seen, Type, Reason, Object, Subobject*, Source*, Message, First Seen*, Count:integer*, Name*"),
    _event,
)
PRINTERS["", "Event"] = _EVENT
PRINTERS["events.k8s.io", "Event"] = _EVENT
