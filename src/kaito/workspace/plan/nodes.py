"""Which nodes the work runs on: those that exist and match are used first, claims ask for the rest.

One verdict for each of the conditions NodeClaimReady (MachineReady), NodesReady and ResourceReady, with the deepest
cause that claims and nodes tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kaito.api.core import Node
from kaito.api.karpenter import LABEL_INSTANCE_TYPE, NodeClaim
from kaito.api.meta import Condition
from kaito.api.validation import match_labels
from kaito.api.workspace import ANNOTATION_BACKED_BY, LABEL_WORKSPACE
from kaito.workspace.actions import Action, Create, Delete
from kaito.workspace.causes import ROUTINE, Cause
from kaito.workspace.explain.claims import cause_of_claim, cause_of_pool
from kaito.workspace.explain.nodes import cause_of_node
from kaito.workspace.names import claim_name, owner_labels
from kaito.workspace.observe import Observed
from kaito.workspace.plan.pools import chosen_class, plan_pool
from kaito.workspace.plan.sizing import Sizing
from kaito.workspace.render.claims import render_claim
from kaito.workspace.render.pods import Placement, weights_volume
from kaito.workspace.settings import NODE_PATIENCE, NodeClass


@dataclass(frozen=True)
class NodePlan:
    actions: tuple[Action, ...]
    conditions: tuple[Condition, ...]
    placement: Placement
    worker_nodes: tuple[str, ...] = ()
    cause: Cause | None = None
    """Why the resources are not ready; None when they are."""
    requeue_after: float | None = None
    surplus: tuple[Action, ...] = field(default=())
    """What gives back the nodes that are not needed any more, for when the server runs without them."""


def plan_nodes(observed: Observed, sizing: Sizing) -> NodePlan:
    claims = [claim for claim in observed.claims if claim.metadata.deletionTimestamp is None]
    existing = _existing(observed, sizing)
    makes_nodes = observed.settings.node_mode != "byo"
    borrowed = existing[: max(0, sizing.nodes - len(claims))] if makes_nodes else existing[: sizing.nodes]
    missing = max(0, sizing.nodes - len(claims) - len(borrowed)) if makes_nodes else 0
    pause = observed.loss.wait(observed.now) if observed.loss else 0.0
    kept = claims[: sizing.nodes]
    actions: Sequence[Action] = ()
    surplus: Sequence[Action] = _deletions(observed, claims[sizing.nodes :])
    if observed.settings.uses_pools and observed.claim_api:
        actions, surplus = plan_pool(observed, sizing, claims, len(borrowed))
    elif observed.claim_api and not pause:
        actions = _new_claims(observed, sizing, missing)
    placement = _placement(observed, sizing, uses_existing=bool(borrowed))
    claim_condition, claim_cause, wait = _judge_claims(observed, kept, missing)
    nodes = [*borrowed, *_nodes_of(observed, kept)]
    node_condition, node_cause = _judge_nodes(observed, sizing, nodes)
    cause = claim_cause or node_cause
    conditions = [*([claim_condition] if makes_nodes else []), node_condition, _resource_condition(cause)]
    return NodePlan(
        actions=tuple(actions),
        conditions=tuple(conditions),
        placement=placement,
        worker_nodes=tuple(sorted(node.metadata.name for node in nodes)),
        cause=cause,
        requeue_after=min((w for w in (wait, pause or None) if w is not None), default=None),
        surplus=tuple(surplus),
    )


def _placement(observed: Observed, sizing: Sizing, *, uses_existing: bool) -> Placement:
    settings = observed.settings
    return Placement(
        node_selector=_selector(observed, uses_existing),
        gpu_resource=sizing.gpu_resource if sizing.gpus else "",
        gpus=sizing.gpus,
        pull_secrets=settings.pull_secrets,
        insecure_registries=settings.insecure_registries,
        weights_volume=weights_volume(settings.weights_storage_class, sizing.weights_bytes),
    )


def claim_condition_type(observed: Observed) -> str:
    is_machine = observed.claim_api is not None and observed.claim_api.kind == "Machine"
    return "MachineReady" if is_machine else "NodeClaimReady"


def _existing(observed: Observed, sizing: Sizing) -> list[Node]:
    """Nodes that no claim made, that carry the selector's labels, and that suit.

    One with pods of other Workspaces counts only where nodes are the user's own: these are shared, by parts or without
    GPUs, and the scheduler knows what is left of them.
    """
    is_own = observed.settings.node_mode == "byo"
    labels = match_labels(observed.workspace.resource.labelSelector)
    return [
        node
        for node in observed.nodes
        if (is_own or LABEL_WORKSPACE not in node.metadata.labels)
        and labels.items() <= node.metadata.labels.items()
        and node.metadata.deletionTimestamp is None
        and (is_own or node.metadata.name not in observed.busy_nodes)
        and not node.spec.unschedulable
        and _suits(observed, node)
        and cause_of_node(node, sizing.gpu_resource, sizing.gpus, observed.now, patience=NODE_PATIENCE) is None
    ]


def _suits(observed: Observed, node: Node) -> bool:
    wanted = observed.workspace.resource.instanceType
    if observed.settings.node_mode == "byo" or not wanted:
        return True
    return node.metadata.labels.get(LABEL_INSTANCE_TYPE, "").lower() == wanted.lower()


def _new_claims(observed: Observed, sizing: Sizing, missing: int) -> list[Action]:
    api = observed.claim_api
    assert api is not None
    metadata = observed.workspace.metadata
    taken = {claim.metadata.name for claim in observed.claims}
    labels = match_labels(observed.workspace.resource.labelSelector)
    actions: list[Action] = []
    index = 0
    while len(actions) < missing:
        name = claim_name(metadata.namespace, metadata.name, index)
        if name not in taken:
            body = render_claim(
                api, name, observed.workspace, sizing.instance, labels, sizing.weights_bytes, _node_class(observed)
            )
            actions.append(Create(api, "", body))
        index += 1
    return actions


def _node_class(observed: Observed) -> NodeClass | None:
    """Karpenter's own; None for the gpu-provisioner, which needs none."""
    return chosen_class(observed) if observed.settings.node_mode == "karpenter" else None


def _deletions(observed: Observed, claims: Iterable[NodeClaim]) -> list[Action]:
    api = observed.claim_api
    return [Delete(api, "", claim.metadata.name, claim.metadata.uid) for claim in claims] if api else []


def _selector(observed: Observed, uses_existing: bool) -> dict[str, str]:
    labels = match_labels(observed.workspace.resource.labelSelector)
    if observed.settings.node_mode == "byo" or uses_existing:
        return labels
    return {**labels, **owner_labels(observed.workspace)}


def _judge_claims(
    observed: Observed, claims: Sequence[NodeClaim], missing: int
) -> tuple[Condition, Cause | None, float | None]:
    """The claims' condition, the cause when it is not True, and when to look again by ourselves."""
    kind = claim_condition_type(observed)
    if observed.claim_api is None and missing:
        cause = Cause(
            "NodeApiMissing",
            "The cluster serves neither NodeClaim nor Machine of karpenter.sh",
            "Install a node provisioner, or its kinds with `kaito crds --karpenter | kubectl apply -f -`.",
            "you",
        )
        return Condition(kind, "False", cause.reason, cause.text), cause, None
    found = [(claim, *cause_of_claim(claim, observed.now)) for claim in claims]
    waits = [wait for _, _, wait in found if wait is not None]
    causes = [cause for _, cause, _ in found if cause is not None]
    if causes:
        cause = max(causes, key=lambda cause: cause.is_final)
        if observed.loss and cause.reason in ROUTINE:
            cause = observed.loss.cause  # until the new claim has got further, the last one's end is the news
        return Condition(kind, "False", cause.reason, cause.text), cause, min(waits, default=None)
    if missing:
        cause, wait = _cause_of_missing(observed, missing)
        return Condition(kind, "False", cause.reason, cause.text), cause, wait
    message = f"{len(claims)} claim(s) are ready." if claims else "Existing nodes are used; no claim is needed."
    return Condition(kind, "True", "NodeClaimsReady", message), None, None


def _cause_of_missing(observed: Observed, missing: int) -> tuple[Cause, float | None]:
    if observed.loss:
        return observed.loss.cause, None
    stuck, wait = cause_of_pool(observed.node_pool, observed.now) if observed.node_pool else (None, None)
    asked = Cause("NodeClaimNotReady", f"{missing} node(s) are being asked for", "", "the node provisioner")
    return stuck or asked, wait


def _nodes_of(observed: Observed, claims: Iterable[NodeClaim]) -> list[Node]:
    by_name = {node.metadata.name: node for node in observed.nodes}
    by_provider = {node.spec.providerID: node for node in observed.nodes if node.spec.providerID}
    found = [by_name.get(c.status.nodeName) or by_provider.get(c.status.providerID) for c in claims]
    return [node for node in found if node is not None and node.metadata.deletionTimestamp is None]


def _judge_nodes(observed: Observed, sizing: Sizing, nodes: Sequence[Node]) -> tuple[Condition, Cause | None]:
    causes = [
        cause
        for node in nodes
        if (cause := cause_of_node(node, sizing.gpu_resource, sizing.gpus, observed.now)) is not None
    ]
    ready = len(nodes) - len(causes)
    if not causes and ready >= sizing.nodes:
        return Condition("NodesReady", "True", "NodesReady", _ready_text(nodes, sizing)), None
    cause = causes[0] if causes else _too_few(observed, sizing, ready)
    return Condition("NodesReady", "False", cause.reason, cause.text), cause


def _too_few(observed: Observed, sizing: Sizing, ready: int) -> Cause:
    message = f"{ready} of {sizing.nodes} node(s) are there"
    if observed.settings.node_mode != "byo":
        return Cause("AwaitingNodes", message, "", "the node provisioner")
    labels = ",".join(f"{k}={v}" for k, v in match_labels(observed.workspace.resource.labelSelector).items())
    if not labels:
        return Cause("NoMatchingNodes", message, "Add nodes.", "you")
    return Cause("NoMatchingNodes", f"{message} that carry {labels}", f"Label GPU nodes with {labels}.", "you")


def _ready_text(nodes: Sequence[Node], sizing: Sizing) -> str:
    gpus = f" with {sizing.gpus} {sizing.gpu_resource} each" if sizing.gpus else ""
    backed = {
        f"{node.metadata.name} is backed by {node.metadata.annotations[ANNOTATION_BACKED_BY]}"
        for node in nodes
        if ANNOTATION_BACKED_BY in node.metadata.annotations
    }
    return ". ".join([f"{len(nodes)} node(s) are ready{gpus}", *sorted(backed)]) + "."


def _resource_condition(cause: Cause | None) -> Condition:
    if cause is None:
        return Condition("ResourceReady", "True", "ResourcesReady", "The nodes are ready.")
    return Condition("ResourceReady", "False", cause.reason, cause.text)
