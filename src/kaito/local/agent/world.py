"""What all pods of the agent share: the API as the informers see it, the addresses, the configuration."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.kube.client import Client
from kaito.kube.events import EventRecorder
from kaito.kube.informer import Informer
from kaito.kube.resources import Resource, untyped
from kaito.kube.store import object_key
from kaito.local.agent.cgroups import MemoryGroups
from kaito.local.agent.config import AgentConfig
from kaito.local.agent.configuration import Configuration, Reference

Object = dict[str, Any]

PODS = untyped("", "v1", "pods", "Pod", True)
NODES = untyped("", "v1", "nodes", "Node", False)
CONFIG_MAPS = untyped("", "v1", "configmaps", "ConfigMap", True)
SECRETS = untyped("", "v1", "secrets", "Secret", True)
CLAIMS = untyped("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True)
KINDS: dict[str, Resource[Object]] = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}


class Addresses:
    """An address for each pod, kept in the pod's folder so that it outlives the agent."""

    def __init__(self, network: str) -> None:
        self._hosts = ipaddress.ip_network(network)
        self._used: dict[str, str] = {}
        self._next = 1

    def of(self, folder: Path) -> str:
        """The address of the pod in `folder`; the first call chooses it."""
        uid = folder.name
        if uid in self._used:
            return self._used[uid]
        file = folder / "address"
        if file.exists():
            address = file.read_text().strip()
        else:
            address = self._free()
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(address + "\n")
        self._used[uid] = address
        return address

    def free(self, uid: str) -> None:
        self._used.pop(uid, None)

    def remember(self, folders: Iterable[Path]) -> None:
        """Know what is taken before the first new pod asks."""
        for folder in folders:
            if (folder / "address").exists():
                self.of(folder)

    def _free(self) -> str:
        taken = set(self._used.values())
        for _ in range(self._hosts.num_addresses):
            self._next = self._next % (self._hosts.num_addresses - 2) + 1
            address = str(self._hosts[self._next])
            if address not in taken:
                return address
        raise OSError(f"no free pod address in {self._hosts}")


@dataclass(frozen=True)
class World:
    client: Client
    config: AgentConfig
    nodes: Informer[Object]
    pods: Informer[Object]
    informers: dict[str, Informer[Object]]
    """Of ConfigMaps and Secrets, by kind."""
    addresses: Addresses
    memory: MemoryGroups | None
    """Where memory limits can be set; None where they cannot."""
    events: EventRecorder
    own_nodes: set[str]
    """Names of the Nodes that we are the kubelet of."""

    def pod(self, key: str, uid: str) -> Object | None:
        """That life of the pod, or None when it is gone."""
        found = self.pods.store.get(key)
        return found if found is not None and found["metadata"]["uid"] == uid else None

    def capacity(self, node: str) -> dict[str, str]:
        found = self.nodes.store.get(node) or {}
        amounts = (found.get("status") or {}).get("allocatable") or {}
        return {name: str(amount) for name, amount in amounts.items()}

    async def configuration(self, namespace: str, wanted: Iterable[Reference], *, fresh: bool) -> Configuration:
        """What the pod refers to. `fresh` asks the API; else the cache, and the API only for what is not there:
        a pod may be seen before the ConfigMap that was made before it."""

        async def find(reference: Reference) -> tuple[Reference, Object | None]:
            kind, name = reference
            cached = self.informers[kind].store.get(object_key(namespace, name))
            if cached is None or fresh:
                found: Object | None = None
                if name:
                    resource: Resource[Any] = KINDS[kind]
                    found = await self.client.find(resource, name, namespace)
                return reference, found
            return reference, cached

        return Configuration(namespace, dict(await asyncio.gather(*(find(reference) for reference in wanted))))
