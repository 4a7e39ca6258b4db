"""What admission has to ask the cluster: the ConfigMap that a Workspace names, and the nodes that it selects.

Asked of the API server and not of the caches, since every replica answers the webhook while only the leader has caches.
The answers are those of the planners, so that a user reads the same sentence here as in the status.
"""

from __future__ import annotations

import logging
from datetime import datetime

from kaito.api.core import Node
from kaito.api.validation import match_labels
from kaito.api.workspace import Workspace, runtime_of
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.kube.resources import NODES
from kaito.workspace.causes import Cause
from kaito.workspace.kinds import CONFIG_OUTLINES, ConfigOutline
from kaito.workspace.observe import Observed
from kaito.workspace.plan.inputs import resolve_config
from kaito.workspace.plan.sizing import cause_of_smallness, plan_sizing
from kaito.workspace.references import named_config
from kaito.workspace.settings import Settings

log = logging.getLogger(__name__)


async def look_up(
    client: Client, settings: Settings, new: Workspace, old: Workspace | None, now: datetime
) -> Cause | None:
    """Why a Workspace without faults of its own cannot work in this cluster; None when that is not known.

    An update is asked about what it changes only: what was there before must not hold back its labels or finalizers.
    """
    try:
        return await _config(client, settings, new, old, now) or await _nodes(client, settings, new, old, now)
    except KubeError as error:
        log.warning("admission could not look up", extra={"workspace": new.metadata.name, "error": str(error)})
        return None


async def _config(
    client: Client, settings: Settings, new: Workspace, old: Workspace | None, now: datetime
) -> Cause | None:
    name = named_config(new)
    if not name or (old is not None and named_config(old) == name):
        return None
    observed = Observed(new, now, settings, user_config=await _find_config(client, new.metadata.namespace, name))
    return resolve_config(observed)[1]


async def _find_config(client: Client, namespace: str, name: str) -> ConfigOutline | None:
    """By a list of one, for which the right to list is enough."""
    found = await client.list(CONFIG_OUTLINES, namespace, fields=f"metadata.name={name}")
    return next((config for config, _ in found.items), None)


async def _nodes(
    client: Client, settings: Settings, new: Workspace, old: Workspace | None, now: datetime
) -> Cause | None:
    """Only where the nodes are there already, or one node has to hold the whole model."""
    is_byo = settings.node_mode == "byo"
    if old is not None or new.inference is None or new.inference.preset is None:
        return None
    if not is_byo and runtime_of(new) != "transformers":
        return None
    nodes = await _find_nodes(client, new) if is_byo else ()
    sizing = plan_sizing(Observed(new, now, settings, nodes=nodes))
    found = sizing.cause if sizing.instance is None else None
    machines = len(nodes) if is_byo else new.resource.count or 1
    return found or cause_of_smallness(new, sizing, machines)


async def _find_nodes(client: Client, workspace: Workspace) -> tuple[Node, ...]:
    labels = ",".join(f"{key}={value}" for key, value in match_labels(workspace.resource.labelSelector).items())
    return tuple(node for node, _ in (await client.list(NODES, labels=labels)).items)
