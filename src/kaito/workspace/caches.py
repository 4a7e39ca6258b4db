"""The informers that the controller reads from, with their indexes.

Children are watched by their label, so that a cluster's other workloads cost nothing here. The node objects are watched
in the version that the cluster serves, which may come to be served only after the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from kaito.api.conditions import is_true
from kaito.api.core import Node, Pod
from kaito.api.karpenter import NodeClaim, NodePool
from kaito.api.validation import match_labels
from kaito.api.workspace import LABEL_WORKSPACE, LABEL_WORKSPACE_NAMESPACE, Workspace
from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import (
    DEPLOYMENTS,
    JOBS,
    NODE_POOLS,
    NODES,
    PODS,
    STATEFUL_SETS,
    WORKSPACES,
    Resource,
)
from kaito.kube.store import object_key, split_key
from kaito.workspace.kinds import CONFIG_OUTLINES, EVENT_OUTLINES, SECRET_OUTLINES, SERVICE_OUTLINES, EventOutline
from kaito.workspace.legacy import LegacyBook
from kaito.workspace.losses import LossBook
from kaito.workspace.progress import ProgressBook
from kaito.workspace.references import config_references, secret_references
from kaito.workspace.slim import slim, slim_claim, slim_pod, slim_workspace

T = TypeVar("T")

ANY_NODE = ""
"""In the index by selector: of Workspaces that name no label."""
REFUSED = "FailedCreate"
FINISHED = ("Succeeded", "Failed")


def owner_key(obj: Any) -> Iterable[str]:
    """The Workspace of a cluster-scoped object, by both labels."""
    labels = obj.metadata.labels
    name, namespace = labels.get(LABEL_WORKSPACE), labels.get(LABEL_WORKSPACE_NAMESPACE)
    return (object_key(namespace, name),) if name and namespace else ()


def labelled_key(obj: Any) -> Iterable[str]:
    """The Workspace of a namespaced object, by its label."""
    name = obj.metadata.labels.get(LABEL_WORKSPACE)
    return (object_key(obj.metadata.namespace, name),) if name else ()


def _labels(node: Node) -> Iterable[str]:
    return (f"{key}={value}" for key, value in node.metadata.labels.items())


def _free_labels(node: Node) -> Iterable[str]:
    """Of nodes that were not made for a Workspace: only those are looked for by their labels."""
    return () if LABEL_WORKSPACE in node.metadata.labels else _labels(node)


def _first_label(workspace: Workspace) -> Iterable[str]:
    """One label of the selector is enough to find who might care for a node."""
    labels = match_labels(workspace.resource.labelSelector)
    return [f"{key}={value}" for key, value in sorted(labels.items())[:1]] or [ANY_NODE]


def _about(event: EventOutline) -> Iterable[str]:
    return (event.involvedObject.uid,) if event.involvedObject.uid else ()


def about_workload(event: EventOutline) -> Iterable[str]:
    """The Workspace of a Job or a StatefulSet: they have its name."""
    about = event.involvedObject
    return (object_key(about.namespace, about.name),) if about.kind in ("Job", "StatefulSet") else ()


def _node_of(pod: Pod) -> Iterable[str]:
    return (pod.spec.nodeName,) if pod.spec.nodeName else ()


class Caches:
    """All informers of one operator. `run` keeps them following the cluster until cancelled."""

    def __init__(
        self,
        client: Client,
        namespace: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        own_namespace: str = "",
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._group: asyncio.TaskGroup | None = None
        self.progress = ProgressBook()
        self.losses = LossBook(now)
        self.legacy = LegacyBook()
        by_reference = {"config": config_references, "secret": secret_references, "selector": _first_label}
        self.workspaces = Informer(
            client, WORKSPACES, namespace=namespace, indexes=by_reference, transform=slim_workspace
        )
        self.nodes = Informer(client, NODES, indexes={"workspace": owner_key, "label": _free_labels}, transform=slim)
        by_pod = {"workspace": labelled_key, "node": _node_of}
        self.pods = Informer(
            client, PODS, namespace=namespace, labels=LABEL_WORKSPACE, indexes=by_pod, transform=slim_pod
        )
        self.jobs = self._children(JOBS, namespace)
        self.deployments = self._children(DEPLOYMENTS, namespace)
        self.stateful_sets = self._children(STATEFUL_SETS, namespace)
        self.services = self._children(SERVICE_OUTLINES, namespace)
        self.configs = Informer(client, CONFIG_OUTLINES, fingerprints=True, namespace=namespace, transform=slim)
        """The users' ConfigMaps, and ours."""
        self.secrets = Informer(client, SECRET_OUTLINES, namespace=namespace, transform=slim)
        self.default_configs = self.configs
        """Where the ConfigMaps of the operator's own namespace are."""
        if namespace and own_namespace not in ("", namespace):
            self.default_configs = Informer(client, CONFIG_OUTLINES, namespace=own_namespace, transform=slim)
        self.refusals = Informer(
            client, EVENT_OUTLINES, namespace=namespace, fields=f"reason={REFUSED}", indexes={"about": _about}
        )
        """Why pods of workloads cannot be made, which no status of a Job or a StatefulSet says."""
        self.claims: Informer[NodeClaim] | None = None
        self.pools: Informer[NodePool] | None = None

    def _children(self, resource: Resource[T], namespace: str) -> Informer[T]:
        return Informer(
            self._client, resource, fingerprints=True, namespace=namespace, labels=LABEL_WORKSPACE, transform=slim
        )

    @property
    def claim_api(self) -> Resource[NodeClaim] | None:
        return self.claims.resource if self.claims else None

    @property
    def always(self) -> tuple[Informer[Any], ...]:
        """The informers of kinds that every cluster has."""
        apart = () if self.default_configs is self.configs else (self.default_configs,)
        return (
            *apart,
            self.workspaces,
            self.nodes,
            self.pods,
            self.jobs,
            self.deployments,
            self.stateful_sets,
            self.services,
            self.configs,
            self.secrets,
            self.refusals,
        )

    def use_claims(self, resource: Resource[NodeClaim], *, pools: bool = False) -> None:
        """Follow the node objects in this version from now on, and the pools that they are made of."""
        by_owner = {"workspace": owner_key}
        self.claims = Informer(self._client, resource, labels=LABEL_WORKSPACE, indexes=by_owner, transform=slim_claim)
        self.claims.listen(self._note_loss)
        if pools:
            self.pools = Informer(
                self._client, NODE_POOLS, labels=LABEL_WORKSPACE, indexes=by_owner, fingerprints=True, transform=slim
            )
        if self._group is not None:
            for informer in self.node_objects:
                self._group.create_task(informer.run())

    @property
    def node_objects(self) -> list[Informer[Any]]:
        """The informers of kinds that only some clusters have."""
        return [informer for informer in (self.claims, self.pools) if informer is not None]

    def _note_loss(self, old: NodeClaim | None, new: NodeClaim | None) -> None:
        """A claim that begins to go, or is gone at once, counts as lost unless its Workspace is going too."""
        was_going = old is not None and old.metadata.deletionTimestamp is not None
        for key in owner_key(new or old):
            if new is not None and new.metadata.deletionTimestamp is None:
                if is_true(new.status.conditions, "Ready"):
                    self.losses.forget(key)
            elif old is not None and not was_going and self._is_wanted(key):
                self.losses.note(key, new or old)

    def _is_wanted(self, key: str) -> bool:
        workspace = self.workspaces.store.get(key)
        return workspace is not None and workspace.metadata.deletionTimestamp is None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            for informer in self.always:
                group.create_task(informer.run())
            for informer in self.node_objects:
                group.create_task(informer.run())

    def claims_of(self, key: str) -> list[NodeClaim]:
        return self.claims.store.by_index("workspace", key) if self.claims else []

    def orphans_of(self, key: str) -> list[tuple[Resource[Any], Any]]:
        """Claims and pools that were made for a Workspace that is not there, and that nobody is deleting."""
        namespace, _ = split_key(key)
        if key in self.workspaces.store or (self._namespace and namespace != self._namespace):
            return []
        return [
            (informer.resource, found)
            for informer in self.node_objects
            for found in informer.store.by_index("workspace", key)
            if found.metadata.deletionTimestamp is None
        ]

    def orphans(self) -> list[tuple[Resource[Any], Any]]:
        """All of them, without those of a pool that is one itself."""
        keys = {key for informer in self.node_objects for obj in informer.store.values() for key in owner_key(obj)}
        return [found for key in sorted(keys) for found in self.orphans_of(key)]

    def pool_of(self, key: str) -> NodePool | None:
        pools = self.pools.store.by_index("workspace", key) if self.pools else []
        return pools[0] if pools else None

    def refusal_of(self, uid: str) -> str:
        """Why the pods of this workload could not be made, the last time that this was so; or nothing."""
        events = self.refusals.store.by_index("about", uid)
        return max(events, key=lambda event: event.lastTimestamp or "").message if events else ""

    def is_busy(self, node: str, key: str) -> bool:
        """Whether pods of other Workspaces than `key` have a place on the node."""
        pods = self.pods.store.by_index("node", node)
        return any(pod.status.phase not in FINISHED and key not in labelled_key(pod) for pod in pods)

    def selecting(self, node: Node) -> list[str]:
        """Keys of the Workspaces whose selector may match the node: by one of its labels."""
        keys: dict[str, None] = {}
        for label in (*_labels(node), ANY_NODE):
            for workspace in self.workspaces.store.by_index("selector", label):
                keys[object_key(workspace.metadata.namespace, workspace.metadata.name)] = None
        return list(keys)
