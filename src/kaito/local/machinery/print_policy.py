"""The rows of access control, networking, scheduling and admission kinds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from kaito.local.machinery.printing import (
    NONE,
    UNSET,
    Printer,
    columns,
    count,
    created,
    format_selector,
    items,
    join,
    name,
    section,
)

Json = dict[str, Any]

_RBAC: Final = "rbac.authorization.k8s.io"
_STORAGE: Final = "storage.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"


def _binding(obj: Json, now: datetime) -> list[Any]:
    role = section(obj, "roleRef")
    subjects = items(obj, "subjects")
    named = {
        kind: join(item.get("name", "") for item in subjects if item.get("kind") == kind) for kind in ("User", "Group")
    }
    accounts = join(
        f"{item.get('namespace', '')}/{item.get('name', '')}"
        for item in subjects
        if item.get("kind") == "ServiceAccount"
    )
    shown = f"{role.get('kind', '')}/{role.get('name', '')}"
    return [name(obj), shown, created(obj, now), named["User"], named["Group"], accounts]


def _lease(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), str(section(obj, "spec").get("holderIdentity") or ""), created(obj, now)]


def _priority_class(obj: Json, now: datetime) -> list[Any]:
    preemption = obj.get("preemptionPolicy") or "PreemptLowerPriority"
    return [name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), created(obj, now), str(preemption)]


def _network_policy(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), format_selector(section(obj, "spec", "podSelector")), created(obj, now)]


def _ingress(obj: Json, now: datetime) -> list[Any]:
    spec = section(obj, "spec")
    hosts = [str(rule["host"]) for rule in items(spec, "rules") if rule.get("host")]
    addresses = [
        str(item.get("ip") or item.get("hostname")) for item in items(obj, "status", "loadBalancer", "ingress")
    ]
    return [
        name(obj),
        str(spec.get("ingressClassName") or NONE),
        join(hosts) or "*",
        join(addresses),
        "80, 443" if spec.get("tls") else "80",
        created(obj, now),
    ]


def _ingress_class(obj: Json, now: datetime) -> list[Any]:
    spec = section(obj, "spec")
    parameters = section(spec, "parameters")
    shown = f"{parameters.get('kind')}/{parameters.get('name')}" if parameters else NONE
    return [name(obj), str(spec.get("controller", "")), shown, created(obj, now)]


def _webhooks(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), count(obj.get("webhooks")), created(obj, now)]


def _attachment(obj: Json, now: datetime) -> list[Any]:
    spec = section(obj, "spec")
    return [
        name(obj),
        str(spec.get("attacher", "")),
        str(section(spec, "source").get("persistentVolumeName") or ""),
        str(spec.get("nodeName", "")),
        bool(section(obj, "status").get("attached")),
        created(obj, now),
    ]


def _csi_node(obj: Json, now: datetime) -> list[Any]:
    return [name(obj), count(section(obj, "spec").get("drivers")), created(obj, now)]


def _csi_driver(obj: Json, now: datetime) -> list[Any]:
    spec = section(obj, "spec")
    modes = spec.get("volumeLifecycleModes")
    return [
        name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        join(modes) if isinstance(modes, list) and modes else UNSET,
        created(obj, now),
    ]


_BINDING: Final = Printer(columns("Name, Role, Age, Users*, Groups*, ServiceAccounts*"), _binding)
_WEBHOOKS: Final = Printer(columns("Name, Webhooks:integer, Age"), _webhooks)

PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    (_RBAC, "RoleBinding"): _BINDING,
    (_RBAC, "ClusterRoleBinding"): _BINDING,
    ("coordination.k8s.io", "Lease"): Printer(columns("Name, Holder, Age"), _lease),
    ("scheduling.k8s.io", "PriorityClass"): Printer(
        columns("Name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy"), _priority_class
    ),
    ("networking.k8s.io", "NetworkPolicy"): Printer(columns("Name, Pod-Selector, Age"), _network_policy),
    ("networking.k8s.io", "Ingress"): Printer(columns("Name, Class, Hosts, Address, Ports, Age"), _ingress),
    ("networking.k8s.io", "IngressClass"): Printer(columns("Name, Controller, Parameters, Age"), _ingress_class),
    (_ADMISSION, "ValidatingWebhookConfiguration"): _WEBHOOKS,
    (_ADMISSION, "MutatingWebhookConfiguration"): _WEBHOOKS,
    (_STORAGE, "VolumeAttachment"): Printer(columns("Name, Attacher, PV, Node, Attached:boolean, Age"), _attachment),
    (_STORAGE, "CSINode"): Printer(columns("Name, Drivers:integer, Age"), _csi_node),
    (_STORAGE, "CSIDriver"): Printer(
        columns("Name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, Modes, Age"),
        _csi_driver,
    ),
}
