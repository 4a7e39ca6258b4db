"""Namespace, Node, Pod, Secret and PersistentVolumeClaim."""

from __future__ import annotations

import base64
import binascii

from kaito.local.apiserver.strategies.base import FieldCauses, Strategy, child, immutable, set_default
from kaito.local.apiserver.strategies.pods import default_pod_spec
from kaito.local.machinery.errors import FIELD_INVALID, FieldCause
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


class PodStrategy(Strategy):
    """Starts Pending; is deleted in two steps, so that the node agent can end its containers in between."""

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
        for name, text in data.items():
            if not _is_base64(text):
                causes.append(FieldCause(f"data[{name}]", "Invalid value: illegal base64 data", FIELD_INVALID))
        key = REQUIRED_SECRET_KEYS.get(str(obj.get("type")))
        if key is not None and key not in data:
            causes.append(FieldCause(f"data[{key}]", "Required value", "FieldValueRequired"))
        if old is not None:
            causes += immutable("type", obj.get("type"), old.get("type"))
            if old.get("immutable") and (data != (old.get("data") or {}) or not obj.get("immutable")):
                causes.append(
                    FieldCause("data", "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")
                )
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
