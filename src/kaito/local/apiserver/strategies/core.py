"""Namespace, Node, Pod, Secret and PersistentVolumeClaim."""

from __future__ import annotations

import base64
import binascii
import re

from kaito.local.apiserver.strategies.base import FieldCauses, Strategy, child, immutable, set_default
from kaito.local.apiserver.strategies.pods import default_pod_spec
from kaito.local.machinery.errors import FIELD_FORBIDDEN, FIELD_INVALID, FIELD_TOO_LONG, FieldCause, compact
from kaito.local.store.records import Object

DEFAULT_TOLERATION_SECONDS = 300
REQUIRED_SECRET_KEYS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/tls": "tls.crt",
}


class NamespaceStrategy(Strategy):
    """Holds the finalizer `kubernetes` in its spec until the namespace controller has emptied it."""

    deletes_return_object = True

    def default(self, obj: Object) -> None:
        name = (obj.get("metadata") or {}).get("name")
        if name:
            labels = child(child(obj, "metadata"), "labels")
            labels["kubernetes.io/metadata.name"] = name

    def prepare_create(self, obj: Object) -> None:
        finalizers = child(obj, "spec").setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        obj["status"] = {"phase": "Active"}

    def prepare_update(self, obj: Object, old: Object) -> None:
        if "spec" in old:
            child(obj, "spec")["finalizers"] = (old["spec"] or {}).get("finalizers", [])


class NodeStrategy(Strategy):
    """A node reports its own status when it registers."""

    status_on_create = True

    def default(self, obj: Object) -> None:
        status = obj.get("status") or {}
        if status.get("capacity") and not status.get("allocatable"):
            status["allocatable"] = dict(status["capacity"])


class ReturnedStrategy(Strategy):
    """A delete answers with the object as it was."""

    deletes_return_object = True


class EndpointsStrategy(Strategy):
    def default(self, obj: Object) -> None:
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                set_default(port, "protocol", "TCP")


class LimitRangeStrategy(Strategy):
    """A limit that says what a container gets without asking says what it asks for, too."""

    def default(self, obj: Object) -> None:
        for limit in (obj.get("spec") or {}).get("limits") or []:
            if limit.get("type") != "Container":
                continue
            usual = limit.get("default") or {}
            for name, quantity in (limit.get("max") or {}).items():
                usual.setdefault(name, quantity)
            asked = {**usual, **(limit.get("defaultRequest") or {})}
            for name, quantity in (limit.get("min") or {}).items():
                asked.setdefault(name, quantity)
            if usual:
                limit["default"] = usual
            if asked:
                limit["defaultRequest"] = asked


class PersistentVolumeStrategy(ReturnedStrategy):
    def default(self, obj: Object) -> None:
        host = (obj.get("spec") or {}).get("hostPath")
        if isinstance(host, dict):
            set_default(host, "type", "")

    def prepare_create(self, obj: Object) -> None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": obj["metadata"]["creationTimestamp"]}


class PodStrategy(Strategy):
    """Starts Pending; is deleted in two steps, so that the node agent can end its containers in between."""

    has_generation = True
    lingers = True
    deletes_return_object = True

    def default(self, obj: Object) -> None:
        default_pod_spec(child(obj, "spec"))
        set_default(obj["spec"], "enableServiceLinks", True)

    def prepare_create(self, obj: Object) -> None:
        obj["status"] = {"phase": "Pending", "qosClass": quality_of_service(obj["spec"])}
        spec = obj["spec"]
        set_default(spec, "serviceAccountName", "default")
        set_default(spec, "serviceAccount", spec["serviceAccountName"])
        set_default(spec, "priority", 0)
        set_default(spec, "preemptionPolicy", "PreemptLowerPriority")
        tolerations = spec.setdefault("tolerations", [])
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            if not any(toleration.get("key") == key for toleration in tolerations):
                tolerations.append(
                    {
                        "key": key,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": DEFAULT_TOLERATION_SECONDS,
                    }
                )

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        spec = obj.get("spec") or {}
        causes = _container_causes(spec)
        if old is not None and _without_mutable(spec) != _without_mutable(old.get("spec") or {}):
            message = (
                "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
                "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
                "(allow it to be set to 1 if it was previously negative)"
            )
            causes.append(FieldCause("spec", message, "FieldValueForbidden"))
        return causes

    def grace_seconds(self, obj: Object, asked: int | None) -> int:
        """A pod that no node runs, or whose containers have ended, needs no goodbye."""
        if not obj["spec"].get("nodeName") or (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        if asked is not None:
            return asked
        return int(obj["spec"].get("terminationGracePeriodSeconds", 30))


CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
DATA_LIMIT = 1024 * 1024


def key_causes(field: str, data: Object) -> FieldCauses:
    """A key becomes a file's name in a volume, and a variable's in an environment."""
    causes: FieldCauses = []
    for key in data:
        told = ""
        if len(key) > 253:
            told = "must be no more than 253 characters"
        elif not CONFIG_KEY.fullmatch(key):
            told = CONFIG_KEY_RULE
        elif key in (".", "..") or key.startswith(".."):
            told = f"must not {'be' if key in ('.', '..') else 'start with'} '{'.' if key == '.' else '..'}'"
        if told:
            causes.append(FieldCause(f"{field}[{key}]", f"Invalid value: {compact(key)}: {told}"))
    return causes


class ConfigMapStrategy(Strategy):
    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        texts, blobs = obj.get("data") or {}, obj.get("binaryData") or {}
        causes = key_causes("data", texts) + key_causes("binaryData", blobs)
        for key in texts.keys() & blobs.keys():
            told = f'Invalid value: "{key}": duplicate of key present in binaryData'
            causes.append(FieldCause(f"data[{key}]", told))
        size = sum(len(str(text).encode()) for text in texts.values()) + sum(
            len(blob) * 3 // 4 for blob in blobs.values()
        )
        if size > DATA_LIMIT:
            causes.append(FieldCause("", f"Too long: may not be more than {DATA_LIMIT} bytes", FIELD_TOO_LONG))
        if old is not None and old.get("immutable"):
            causes += immutable_data(obj, old, ("data", "binaryData"))
        return causes


def immutable_data(obj: Object, old: Object, fields: tuple[str, ...]) -> FieldCauses:
    """What `immutable` promised: neither it nor the data changes."""
    message = "Forbidden: field is immutable when `immutable` is set"
    causes = [
        FieldCause(field, message, FIELD_FORBIDDEN)
        for field in fields
        if (obj.get(field) or {}) != (old.get(field) or {})
    ]
    if not obj.get("immutable"):
        causes.insert(0, FieldCause("immutable", message, FIELD_FORBIDDEN))
    return causes


class SecretStrategy(Strategy):
    def default(self, obj: Object) -> None:
        set_default(obj, "type", "Opaque")
        plain = obj.pop("stringData", None)
        if isinstance(plain, dict):
            data = child(obj, "data")
            for name, text in plain.items():
                data[name] = base64.b64encode(str(text).encode()).decode()

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        causes: FieldCauses = []
        data = obj.get("data") or {}
        causes += key_causes("data", data)
        for name, text in data.items():
            if not _is_base64(text):
                causes.append(FieldCause(f"data[{name}]", "Invalid value: illegal base64 data", FIELD_INVALID))
        key = REQUIRED_SECRET_KEYS.get(str(obj.get("type")))
        if key is not None and key not in data:
            causes.append(FieldCause(f"data[{key}]", "Required value", "FieldValueRequired"))
        if old is not None:
            causes += immutable("type", obj.get("type"), old.get("type"))
            if old.get("immutable"):
                causes += immutable_data(obj, old, ("data",))
        return causes


class PersistentVolumeClaimStrategy(Strategy):
    deletes_return_object = True

    def default(self, obj: Object) -> None:
        set_default(child(obj, "spec"), "volumeMode", "Filesystem")

    def prepare_create(self, obj: Object) -> None:
        obj["status"] = {"phase": "Pending"}


def quality_of_service(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, as the kubelet classes pods."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    pairs = [
        ((one.get("resources") or {}).get("requests") or {}, (one.get("resources") or {}).get("limits") or {})
        for one in containers
    ]
    if not any(requests or limits for requests, limits in pairs):
        return "BestEffort"
    if all({"cpu", "memory"} <= limits.keys() and requests == limits for requests, limits in pairs):
        return "Guaranteed"
    return "Burstable"


def _container_causes(spec: Object) -> FieldCauses:
    containers = spec.get("containers")
    if not containers:
        return [FieldCause("spec.containers", "Required value", "FieldValueRequired")]
    causes: FieldCauses = []
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for position, container in enumerate(spec.get(field) or []):
            where = f"spec.{field}[{position}]"
            name = container.get("name")
            if not name:
                causes.append(FieldCause(f"{where}.name", "Required value", "FieldValueRequired"))
            elif name in seen:
                causes.append(FieldCause(f"{where}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate"))
            else:
                seen.add(name)
            if not container.get("image"):
                causes.append(FieldCause(f"{where}.image", "Required value", "FieldValueRequired"))
    return causes


def _without_mutable(spec: Object) -> Object:
    """The spec less what may change after creation. Setting nodeName once is the binding's, not an update's."""
    hidden = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"}
    kept = {name: value for name, value in spec.items() if name not in hidden}
    for field in ("containers", "initContainers"):
        if field in kept:
            kept[field] = [
                {name: value for name, value in container.items() if name not in ("image", "imagePullPolicy")}
                for container in kept[field] or []
            ]
    return kept


def _is_base64(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
