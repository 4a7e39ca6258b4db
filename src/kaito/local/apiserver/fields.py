"""Which fields a field selector may name, per kind, as Kubernetes has them."""

from __future__ import annotations

from kaito.local.machinery.errors import bad_request
from kaito.local.machinery.kinds import ResourceInfo
from kaito.local.machinery.selectors import FieldSelector

EVERY_KIND = frozenset({"metadata.name", "metadata.namespace"})
_OBJECT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
BY_KIND: dict[tuple[str, str], frozenset[str]] = {
    ("", "Pod"): frozenset(
        {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"}
        | {"status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName"}
    ),
    ("", "Event"): frozenset(
        {f"involvedObject.{name}" for name in _OBJECT} | {"reason", "reportingComponent", "source", "type"}
    ),
    ("events.k8s.io", "Event"): frozenset(
        {f"regarding.{name}" for name in _OBJECT} | {"reason", "reportingController", "type"}
    ),
    ("", "Secret"): frozenset({"type"}),
    ("", "Namespace"): frozenset({"status.phase"}),
    ("", "Node"): frozenset({"spec.unschedulable"}),
    ("", "Service"): frozenset({"spec.clusterIP", "spec.type"}),
    ("", "ReplicationController"): frozenset({"status.replicas"}),
    ("apps", "ReplicaSet"): frozenset({"status.replicas"}),
    ("batch", "Job"): frozenset({"status.successful"}),
}


def check_fields(info: ResourceInfo, selector: FieldSelector) -> None:
    """Raises 400 for a field that the kind does not select by."""
    known = EVERY_KIND | BY_KIND.get((info.group, info.kind), frozenset())
    known |= {path.lstrip(".") for path in info.selectable_fields}
    for path in selector.paths:
        if path in known:
            continue
        if info.crd or (info.group, info.kind) in BY_KIND:
            raise bad_request(f"field label not supported: {path}")
        raise bad_request(f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"')
