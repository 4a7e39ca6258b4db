"""The objects that every cluster has from its first second: namespaces, the Service of the API, the admins' role."""

from __future__ import annotations

from datetime import datetime

from kaito.local.apiserver.auth import ADMIN
from kaito.local.apiserver.call import Call
from kaito.local.apiserver.options import WriteOptions
from kaito.local.apiserver.resources import Resources
from kaito.local.apiserver.write import Writer
from kaito.local.store.records import Object

MANAGER = "kaito-apiserver"
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def create_first_objects(writer: Writer, resources: Resources, now: datetime, address: str, port: int) -> None:
    """Makes what is not there yet."""
    for name in NAMESPACES:
        await _create(writer, resources, now, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for name in NAMESPACES:
        account: Object = {"apiVersion": "v1", "kind": "ServiceAccount"}
        account["metadata"] = {"name": "default", "namespace": name}
        await _create(writer, resources, now, account)
    await _create(writer, resources, now, _service(address, port))
    await _create(writer, resources, now, _admin_role())
    await _create(writer, resources, now, _admin_binding())


async def _create(writer: Writer, resources: Resources, now: datetime, obj: Object) -> None:
    group, _, version = obj["apiVersion"].rpartition("/")
    resource = resources.find_kind(group, version, obj["kind"])
    assert resource is not None, obj["kind"]
    metadata = obj["metadata"]
    call = Call(resource, metadata.get("namespace", ""), "", "", WriteOptions(manager=MANAGER), ADMIN, now)
    found = Call(resource, call.namespace, metadata["name"], "", call.options, ADMIN, now)
    if not writer.exists(found):
        await writer.create(call, obj)


def _service(address: str, port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": address,
            "ports": [{"name": "https", "port": 443, "targetPort": port, "protocol": "TCP"}],
        },
    }


def _admin_role() -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "cluster-admin"},
        "rules": [
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]},
        ],
    }


def _admin_binding() -> Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "cluster-admin"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:masters"}],
    }
