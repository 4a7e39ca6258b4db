"""One frozen picture of all that a decision about a Workspace needs, the time included, read from the caches alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kaito.api.core import Job, Node, Pod, Workload
from kaito.api.karpenter import NodeClaim, NodePool
from kaito.api.validation import match_labels
from kaito.api.workspace import Workspace
from kaito.kube.resources import Resource
from kaito.kube.store import object_key, split_key
from kaito.workspace.caches import Caches
from kaito.workspace.kinds import ConfigOutline, SecretOutline
from kaito.workspace.legacy import Legacy
from kaito.workspace.losses import Loss
from kaito.workspace.names import owner_labels
from kaito.workspace.progress import Progress
from kaito.workspace.references import default_config, named_config, named_secrets
from kaito.workspace.settings import Settings


@dataclass(frozen=True)
class Observed:
    workspace: Workspace
    now: datetime
    settings: Settings
    claim_api: Resource[NodeClaim] | None = None
    """The node API that claims are written in; None when the cluster serves none."""
    user_config: ConfigOutline | None = None
    default_config: ConfigOutline | None = None
    """The defaults of the tuning method: of the Workspace's namespace, else of the operator's."""
    secrets: Mapping[str, SecretOutline] = field(default_factory=dict)
    """The Secrets of the namespace that the Workspace names, those that exist."""
    claims: tuple[NodeClaim, ...] = ()
    node_pool: NodePool | None = None
    nodes: tuple[Node, ...] = ()
    """Nodes of the claims, and nodes that carry the selector's labels."""
    busy_nodes: frozenset[str] = frozenset()
    """Names of nodes on which pods of other Workspaces are."""
    job: Job | None = None
    deployment: Workload | None = None
    stateful_set: Workload | None = None
    pods: tuple[Pod, ...] = ()
    legacy: tuple[Legacy, ...] = ()
    """Servers of an earlier KAITO."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Why pods of the Job or of the StatefulSet could not be made, by kind, where that happened."""
    loss: Loss | None = None
    """The last claim that went away before it gave a node."""
    progress: Mapping[str, Progress] = field(default_factory=dict)
    """What the pods said of their work, by the pod's uid."""

    @property
    def key(self) -> str:
        return object_key(self.workspace.metadata.namespace, self.workspace.metadata.name)

    @property
    def is_deleting(self) -> bool:
        return self.workspace.metadata.deletionTimestamp is not None

    def refusal_of(self, kind: str) -> str:
        return self.refusals.get(kind, "")

    def pods_of(self, role_label: str, role: str) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.pods if pod.metadata.labels.get(role_label) == role)


def observe(caches: Caches, key: str, now: datetime, settings: Settings) -> Observed | None:
    """The picture of one Workspace; None when it is gone."""
    workspace = caches.workspaces.store.get(key)
    if workspace is None:
        return None
    namespace, _ = split_key(key)
    config, fallback = named_config(workspace), default_config(workspace)
    nodes = tuple(_nodes(caches, workspace, key, settings))
    job, stateful_set = caches.jobs.store.get(key), caches.stateful_sets.store.get(key)
    return Observed(
        workspace=workspace,
        now=now,
        settings=settings,
        claim_api=caches.claim_api,
        user_config=caches.configs.store.get(object_key(namespace, config)) if config else None,
        default_config=_default_config(caches, namespace, fallback, settings) if fallback else None,
        secrets={
            name: secret
            for name in named_secrets(workspace)
            if (secret := caches.secrets.store.get(object_key(namespace, name))) is not None
        },
        claims=tuple(caches.claims_of(key)),
        node_pool=caches.pool_of(key),
        loss=caches.losses.of(key),
        nodes=nodes,
        busy_nodes=frozenset(node.metadata.name for node in nodes if caches.is_busy(node.metadata.name, key)),
        job=job,
        deployment=caches.deployments.store.get(key),
        stateful_set=stateful_set,
        refusals={
            kind: message
            for kind, workload in (("Job", job), ("StatefulSet", stateful_set))
            if workload is not None and (message := caches.refusal_of(workload.metadata.uid))
        },
        legacy=caches.legacy.of(key, workspace.metadata.uid),
        pods=tuple(caches.pods.store.by_index("workspace", key)),
        progress=caches.progress.of(key),
    )


def _default_config(caches: Caches, namespace: str, name: str, settings: Settings) -> ConfigOutline | None:
    near = caches.configs.store.get(object_key(namespace, name))
    return near or caches.default_configs.store.get(object_key(settings.own_namespace, name))


def _nodes(caches: Caches, workspace: Workspace, key: str, settings: Settings) -> list[Node]:
    """Those that were made for the Workspace, and those that its selector matches: without labels, all of one's own."""
    labels = match_labels(workspace.resource.labelSelector)
    found = {node.metadata.name: node for node in caches.nodes.store.by_index("workspace", key)}
    if not labels and settings.node_mode == "byo":
        found = {node.metadata.name: node for node in caches.nodes.store.values()}
    elif labels:
        first, value = next(iter(labels.items()))
        for node in caches.nodes.store.by_index("label", f"{first}={value}"):
            if labels.items() <= node.metadata.labels.items():
                found[node.metadata.name] = node
    own = owner_labels(workspace)
    return [found[name] for name in sorted(found) if _is_ours(found[name], own)]


def _is_ours(node: Node, own: dict[str, str]) -> bool:
    """A node that is labelled for another Workspace is never ours, whatever else it carries."""
    return all(node.metadata.labels.get(key, value) == value for key, value in own.items())
