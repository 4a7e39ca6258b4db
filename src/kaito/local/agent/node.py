"""The Nodes of this machine: its own, and every virtual one whose providerID begins with `local://`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import socket
from datetime import datetime
from typing import Any

import psutil

import kaito
from kaito.api.conditions import timestamp
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from kaito.kube.resources import LEASES
from kaito.kube.store import Store
from kaito.local.agent.config import AgentConfig
from kaito.local.agent.world import NODES, Object

log = logging.getLogger(__name__)

PREFIX = "local://"
LABEL_PROVIDER = "kaito.sh/node-provider"
ANNOTATION_CAPACITY = "kaito.sh/capacity"
LEASE_NAMESPACE = "kube-node-lease"
MAX_PODS = "110"
PORTLESS_KUBELET = {"kubeletEndpoint": {"Port": 0}}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def default_node_name(config: AgentConfig) -> str:
    """The host's name as Kubernetes takes it: lower case, letters, digits, dots and dashes."""
    name = config.node_name or socket.gethostname()
    clean = "".join(c if c.isalnum() or c in "-." else "-" for c in name.lower()).strip("-.")
    return clean or "local"


def machine_capacity() -> dict[str, str]:
    memory = f"{psutil.virtual_memory().total // 1024}Ki"
    return {"cpu": str(len(os.sched_getaffinity(0))), "memory": memory, "pods": MAX_PODS}


def render_node(name: str) -> dict[str, Any]:
    """The Node of the machine itself."""
    labels = {
        LABEL_PROVIDER: "local",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": platform.system().lower(),
        "kubernetes.io/arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
    }
    return {"metadata": {"name": name, "labels": labels}, "spec": {"providerID": f"{PREFIX}{name}/{name}"}}


def is_local(node: Object) -> bool:
    return str((node.get("spec") or {}).get("providerID") or "").startswith(PREFIX)


def render_status(node: Object, now: datetime) -> dict[str, Any]:
    """What the kubelet of a node says: it is ready, and has what its annotation says, or what this machine has."""
    metadata, old = node["metadata"], node.get("status") or {}
    capacity = _annotated_capacity(metadata) or old.get("capacity") or machine_capacity()
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": metadata["name"]},
        ],
        "nodeInfo": _node_info(),
        "daemonEndpoints": PORTLESS_KUBELET,
        "conditions": _conditions(old.get("conditions") or [], now),
    }


def _annotated_capacity(metadata: dict[str, Any]) -> dict[str, str]:
    text = (metadata.get("annotations") or {}).get(ANNOTATION_CAPACITY)
    if not text:
        return {}
    try:
        content = json.loads(text)
        return {str(name): str(amount) for name, amount in content.items()}
    except (json.JSONDecodeError, AttributeError):
        log.warning("the node's capacity annotation is no JSON object", extra={"node": metadata["name"]})
        return {}


def _node_info() -> dict[str, str]:
    version = f"v1.33.0+kaito.{kaito.__version__}"
    return {
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
        "kernelVersion": platform.release(),
        "osImage": _os_image(),
        "containerRuntimeVersion": f"kaito://{kaito.__version__}",
        "kubeletVersion": version,
        "kubeProxyVersion": version,
        "operatingSystem": platform.system().lower(),
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
    }


def _os_image() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return platform.system()


def _conditions(old: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    wanted = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "the node agent of this machine is ready"),
    ]
    before = {condition["type"]: condition for condition in old}
    rendered = []
    for type_, status, reason, message in wanted:
        condition = {"type": type_, "status": status, "reason": reason, "message": message}
        known = before.get(type_, {})
        if known.get("status") == status and known.get("reason") == reason:
            condition |= {k: known[k] for k in ("lastTransitionTime", "lastHeartbeatTime") if k in known}
        else:
            condition |= {"lastTransitionTime": timestamp(now), "lastHeartbeatTime": timestamp(now)}
        rendered.append(condition)
    return rendered


class NodeRegistrar:
    """Keeps the status of our Nodes, and renews their leases so that others know that we live."""

    def __init__(self, client: Client, config: AgentConfig, store: Store[Object]) -> None:
        self._client = client
        self._config = config
        self._store = store
        self.name = default_node_name(config)

    async def register(self) -> None:
        """Make the Node of the machine itself, unless it is there. Raises KubeError."""
        with contextlib.suppress(AlreadyExists):
            await self._client.create(NODES, render_node(self.name))

    async def sync(self, name: str) -> None:
        """Bring one Node's status to what is so. Writes only what differs."""
        node = self._store.get(name)
        if node is None or not is_local(node) or self._store.is_behind(name):
            return
        status, known = render_status(node, self._config.clock()), node.get("status") or {}
        if all(known.get(key) == value for key, value in status.items()):
            return
        with contextlib.suppress(Conflict, NotFound):
            written = await self._client.patch(NODES, name, {"status": status}, subresource="status")
            self._store.observe_own_write(name, written["metadata"]["resourceVersion"])
            log.info("node is ready", extra={"node": name})

    async def renew_leases(self, names: set[str]) -> None:
        """One Lease per Node, renewed for ever. Run until cancelled."""
        while True:
            for name in sorted(names):
                try:
                    await self._renew(name)
                except KubeError as error:
                    log.warning("node lease not renewed", extra={"node": name, "error": str(error)})
            await asyncio.sleep(self._config.lease_seconds)

    async def _renew(self, name: str) -> None:
        moment = self._config.clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": int(4 * self._config.lease_seconds),
            "renewTime": moment,
        }
        try:
            await self._client.patch(LEASES, name, {"spec": spec}, LEASE_NAMESPACE)
        except NotFound:
            owner = self._store.get(name)
            if owner is None:
                return
            reference = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner["metadata"]["uid"]}
            metadata = {"name": name, "ownerReferences": [reference]}
            await self._client.create(LEASES, {"metadata": metadata, "spec": spec}, LEASE_NAMESPACE)
