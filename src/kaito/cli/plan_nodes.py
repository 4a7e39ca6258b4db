"""Nodes that exist, for `kaito plan`: out of manifests, or read from a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaito.api.conditions import is_true
from kaito.api.core import Node
from kaito.api.validation import match_labels
from kaito.api.workspace import Workspace
from kaito.catalog.instances import InstanceType
from kaito.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from kaito.kube.client import Client

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
REGION = "topology.kubernetes.io/region"


class DoesNotFit(CommandError):
    code = 3


@dataclass(frozen=True)
class Nodes:
    """Ready nodes that this Workspace can use. `is_all`: no others are made for it."""

    names: tuple[str, ...]
    instance: InstanceType | None = None
    """What they are; None where the Workspace names its instance type itself."""
    is_all: bool = False

    @property
    def count(self) -> int:
        return len(self.names)


def nodes_for(workspace: Workspace, nodes: tuple[Node, ...] | None, *, is_cluster: bool) -> Nodes | None:
    """None where nobody looked. Raises DoesNotFit where none is ready, UsageError for nodes of several kinds."""
    if nodes is None:
        return None
    labels = match_labels(workspace.resource.labelSelector)
    carrying = [node for node in nodes if labels.items() <= node.metadata.labels.items()]
    wanted = workspace.resource.instanceType.lower()
    if wanted:
        ready = [
            node.metadata.name
            for node in carrying
            if node.metadata.labels.get(INSTANCE_TYPE, "").lower() == wanted and _is_ready(node)
        ]
        return Nodes(tuple(sorted(ready))) if is_cluster or ready else None
    from kaito.workspace.causes import Cause
    from kaito.workspace.plan.byo import shared_instance

    found = shared_instance(carrying, labels, workspace.resource.partition)
    if isinstance(found, Cause):
        raise (UsageError if found.is_final else DoesNotFit)(found.message, found.hint)
    names = sorted(node.metadata.name for node in carrying if _is_ready(node))
    return Nodes(tuple(names), found, is_all=True)


def _is_ready(node: Node) -> bool:
    return is_true(node.status.conditions, "Ready")


async def read_cluster(
    client: Client, namespace: str, config_names: set[str]
) -> tuple[tuple[Node, ...], dict[str, dict[str, str]], str]:
    """Nodes, the ConfigMaps of those names that are there, and the region that most nodes are in."""
    from kaito.kube.resources import CONFIG_MAPS, NODES

    nodes = [node for node, _ in (await client.list(NODES)).items]
    configs = {}
    for name in sorted(config_names):
        found = await client.find(CONFIG_MAPS, name, namespace)
        if found is not None:
            configs[name] = dict(found.data)
    regions = [node.metadata.labels.get(REGION, "") for node in nodes]
    region = max(sorted(set(regions)), key=regions.count, default="")
    return tuple(nodes), configs, region
