"""Service: ports and types. The cluster address is given by admission, which knows which ones are taken."""

from __future__ import annotations

from kaito.local.apiserver.strategies.base import FieldCauses, Strategy, child, immutable, set_default
from kaito.local.machinery.errors import FieldCause
from kaito.local.store.records import Object

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


class ServiceStrategy(Strategy):
    deletes_return_object = True

    def default(self, obj: Object) -> None:
        spec = child(obj, "spec")
        set_default(spec, "type", "ClusterIP")
        set_default(spec, "sessionAffinity", "None")
        for port in spec.get("ports") or []:
            set_default(port, "protocol", "TCP")
            set_default(port, "targetPort", port.get("port"))
        if spec["type"] == "ExternalName":
            return
        set_default(spec, "internalTrafficPolicy", "Cluster")
        if spec["type"] in ("NodePort", "LoadBalancer"):
            set_default(spec, "externalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            set_default(spec, "allocateLoadBalancerNodePorts", True)

    def prepare_create(self, obj: Object) -> None:
        obj["status"] = {"loadBalancer": {}}
        _choose_families(obj["spec"])

    def prepare_update(self, obj: Object, old: Object) -> None:
        spec, before = obj["spec"], old.get("spec") or {}
        _choose_families(spec)
        if spec["type"] != "ExternalName" and not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
            spec["clusterIPs"] = before.get("clusterIPs", [before["clusterIP"]])

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        spec = obj["spec"]
        causes: FieldCauses = []
        if spec["type"] not in TYPES:
            known = ", ".join(f'"{name}"' for name in TYPES)
            message = f'Unsupported value: "{spec["type"]}": supported values: {known}'
            causes.append(FieldCause("spec.type", message, "FieldValueNotSupported"))
        if not spec.get("ports") and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
            causes.append(FieldCause("spec.ports", "Required value", "FieldValueRequired"))
        for position, port in enumerate(spec.get("ports") or []):
            causes += _port_causes(position, port, several=len(spec["ports"]) > 1)
        if old is not None and spec["type"] != "ExternalName" and (old.get("spec") or {}).get("clusterIP"):
            causes += immutable("spec.clusterIP", spec.get("clusterIP"), old["spec"]["clusterIP"])
        return causes


def _choose_families(spec: Object) -> None:
    if spec["type"] != "ExternalName":
        set_default(spec, "ipFamilies", ["IPv4"])
        set_default(spec, "ipFamilyPolicy", "SingleStack")


def _port_causes(position: int, port: Object, *, several: bool) -> FieldCauses:
    where = f"spec.ports[{position}]"
    causes: FieldCauses = []
    number = port.get("port")
    if not isinstance(number, int) or not 0 < number < 65536:
        message = f"Invalid value: {number}: must be between 1 and 65535, inclusive"
        causes.append(FieldCause(f"{where}.port", message))
    if several and not port.get("name"):
        causes.append(FieldCause(f"{where}.name", "Required value", "FieldValueRequired"))
    return causes
