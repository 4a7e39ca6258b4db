"""Registered: the claim's node has joined and carries what the claim asked for: labels, taints, owner, finalizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kaito.api.core import Node
from kaito.api.karpenter import LABEL_REGISTERED, TERMINATION_FINALIZER, Taint
from kaito.api.meta import Condition
from kaito.nodes.claim import LABEL_DO_NOT_SYNC_TAINTS, REGISTERED, Claim
from kaito.nodes.codecs import AWAITING
from kaito.nodes.lifecycle.world import Observed, PatchNode, Step, failed, holds, pending

UNREGISTERED_TAINT = "karpenter.sh/unregistered"


def plan_registration(seen: Observed, launched: Condition) -> Step:
    if launched.status != "True":
        return Step(pending(REGISTERED, AWAITING, ""))
    if len(seen.nodes) > 1:
        names = ", ".join(sorted(node.metadata.name for node in seen.nodes))
        return Step(failed(REGISTERED, "MultipleNodesFound", f"more than one node says it is this claim's: {names}"))
    if not seen.nodes:
        if seen.claim.is_true(REGISTERED):
            message = f"node {seen.claim.node_name} is gone from the cluster"
            return Step(pending(REGISTERED, "NodeNotFound", message))
        return Step(pending(REGISTERED, "NodeNotFound", "the instance runs; its node has not joined the cluster yet"))
    node = seen.nodes[0]
    patch = node_patch(seen.claim, node)
    actions = (PatchNode(node.metadata.name, node.metadata.resourceVersion, patch),) if patch else ()
    status = {"node_name": node.metadata.name, "provider_id": node.spec.providerID or seen.claim.provider_id}
    return Step(holds(REGISTERED), actions, status)


def node_patch(claim: Claim, node: Node) -> dict[str, Any]:
    """The merge patch that makes `node` what the claim asked for; empty when it is that already."""
    metadata: dict[str, Any] = {}
    labels = {k: v for k, v in node_labels(claim, node.metadata.labels).items() if node.metadata.labels.get(k) != v}
    if labels:
        metadata["labels"] = labels
    if TERMINATION_FINALIZER not in node.metadata.finalizers and node.metadata.deletionTimestamp is None:
        metadata["finalizers"] = [*node.metadata.finalizers, TERMINATION_FINALIZER]
    if all(owner.uid != claim.uid for owner in node.metadata.ownerReferences):
        owners = [msgspec.to_builtins(owner) for owner in node.metadata.ownerReferences]
        metadata["ownerReferences"] = [*owners, owner_reference(claim)]
    patch: dict[str, Any] = {"metadata": metadata} if metadata else {}
    taints = _taints(claim, node)
    if taints != list(node.spec.taints):
        patch["spec"] = {"taints": [msgspec.to_builtins(taint) for taint in taints]}
    return patch


def node_labels(claim: Claim, present: Mapping[str, str]) -> dict[str, str]:
    """Labels of the claim, and its requirements of one value where the node does not say otherwise."""
    asked = {key: value for key, value in required_labels(claim).items() if key not in present}
    return {**asked, **claim.labels, LABEL_REGISTERED: "true"}


def required_labels(claim: Claim) -> dict[str, str]:
    """The requirements that leave no choice, as labels: the instance type above all."""
    return {r.key: r.values[0] for r in claim.requirements if r.operator == "In" and len(r.values) == 1}


def owner_reference(claim: Claim) -> dict[str, Any]:
    return {
        "apiVersion": claim.api_version,
        "kind": claim.kind,
        "name": claim.name,
        "uid": claim.uid,
        "blockOwnerDeletion": True,
    }


def _taints(claim: Claim, node: Node) -> list[Taint]:
    """The node's taints without `unregistered`, and, until it is registered once, with the claim's.

    Startup taints are taken off by whoever they wait for; putting them back later would undo that.
    """
    kept = [taint for taint in node.spec.taints if taint.key != UNREGISTERED_TAINT]
    if node.metadata.labels.get(LABEL_REGISTERED) == "true" or LABEL_DO_NOT_SYNC_TAINTS in node.metadata.labels:
        return kept
    return merge_taints(kept, (*claim.taints, *claim.startup_taints))


def merge_taints(present: Sequence[Taint], wanted: Iterable[Taint]) -> list[Taint]:
    """`wanted` added to `present`; one taint for each key and effect, the present one winning."""
    merged = {(taint.key, taint.effect): taint for taint in wanted}
    merged |= {(taint.key, taint.effect): taint for taint in present}
    order = dict.fromkeys([*((taint.key, taint.effect) for taint in present), *merged])
    return [merged[key] for key in order]
