"""Nodes through one NodePool of Karpenter with a fixed number of replicas, instead of claims of our own.

Karpenter makes the claims, replaces those that fail, and rolls nodes whose class changed. What it makes carries the
Workspace's labels, so it is read like claims of ours.
"""

from __future__ import annotations

from dataclasses import replace

from kaito.api.karpenter import LABEL_NODEPOOL, NodeClaim
from kaito.api.validation import match_labels
from kaito.api.workspace import ANNOTATION_NODE_CLASS, node_image_of
from kaito.kube.resources import NODE_POOLS
from kaito.workspace.actions import Action, Apply
from kaito.workspace.names import pool_name
from kaito.workspace.observe import Observed
from kaito.workspace.plan.sizing import Sizing
from kaito.workspace.render.pools import render_pool
from kaito.workspace.settings import NodeClass

IMAGE_CLASSES = {"ubuntu": "image-family-ubuntu", "azurelinux": "image-family-azure-linux"}
"""The node classes that KAITO's own chart makes for the values of `kaito.sh/node-image-family`."""


def chosen_class(observed: Observed) -> NodeClass:
    """The operator's node class, under the name that the Workspace's annotations choose."""
    annotations, settings = observed.workspace.metadata.annotations, observed.settings
    by_image = IMAGE_CLASSES.get(node_image_of(observed.workspace), "")
    default = by_image if by_image in settings.node_classes else settings.node_class.name
    return replace(settings.node_class, name=annotations.get(ANNOTATION_NODE_CLASS) or default)


def plan_pool(
    observed: Observed, sizing: Sizing, claims: list[NodeClaim], borrowed: int
) -> tuple[tuple[Action, ...], tuple[Action, ...]]:
    """The pool as it shall be now, and as it shall be once the server runs without its surplus."""
    others = sum(1 for claim in claims if LABEL_NODEPOOL not in claim.metadata.labels)
    wanted = max(0, sizing.nodes - borrowed - others)
    present = observed.node_pool.spec.replicas if observed.node_pool else 0
    if not wanted and observed.node_pool is None:
        return (), ()
    growing = (_apply(observed, max(wanted, present)),)
    return growing, (_apply(observed, wanted),) if wanted < present else ()


def _apply(observed: Observed, replicas: int) -> Apply:
    workspace = observed.workspace
    name = pool_name(workspace.metadata.namespace, workspace.metadata.name)
    labels = match_labels(workspace.resource.labelSelector)
    return Apply(NODE_POOLS, "", render_pool(name, workspace, labels, chosen_class(observed), replicas))
