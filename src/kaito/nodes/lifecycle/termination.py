"""Termination: cordon and drain while the machine lives, delete the machine by name until it is gone, then let go.

The finalizer goes last. Until then every step may be repeated, whatever was done before a crash.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kaito.api.conditions import timestamp
from kaito.api.core import Node
from kaito.api.karpenter import TERMINATION_FINALIZER
from kaito.nodes.claim import ANNOTATION_TERMINATION_TIME, Claim
from kaito.nodes.lifecycle.drain import DISRUPTED, plan_drain
from kaito.nodes.lifecycle.launch import is_of_former_claim
from kaito.nodes.lifecycle.registration import merge_taints
from kaito.nodes.lifecycle.world import (
    Action,
    DeleteInstance,
    DeleteNode,
    DeletePod,
    ListInstances,
    Observed,
    PatchClaim,
    PatchNode,
    Plan,
)
from kaito.nodes.providers.base import InstanceState

LABEL_EXCLUDE_BALANCER = "node.kubernetes.io/exclude-from-external-load-balancers"
DELETE_AGAIN = 5.0
"""Seconds until a deletion that the cloud accepted is looked after again, should its list not tell before."""


def plan_termination(seen: Observed) -> Plan:
    claim = seen.claim
    if not claim.has_finalizer:
        return Plan()
    if seen.rival:
        return Plan((_release(claim),))  # the instance of this name is not ours to end
    if seen.instance is None:
        if not seen.instances_known:
            listing = (ListInstances(),) if seen.list_error is None else ()
            return Plan(listing, requeue_after=DELETE_AGAIN if seen.list_error else 0.0)
        return Plan((*_bury(seen), _release(claim)))
    if seen.instance.state is InstanceState.DELETING:
        return Plan()  # one request is enough; the list tells when it is gone
    if is_of_former_claim(seen.instance, claim):
        return Plan((DeleteInstance(),), requeue_after=DELETE_AGAIN)
    clock = _start_of_patience(claim)
    drain = plan_drain(seen)
    cordon = tuple(patch for node in seen.nodes if (patch := _cordon(node)) is not None)
    if not drain.done:
        return Plan((*clock, *cordon, *drain.actions), requeue_after=drain.requeue_after)
    return Plan((*clock, *cordon, *drain.actions, DeleteInstance()), requeue_after=DELETE_AGAIN)


def _start_of_patience(claim: Claim) -> tuple[Action, ...]:
    if claim.grace is None or claim.deleted_at is None or ANNOTATION_TERMINATION_TIME in claim.annotations:
        return ()
    until = timestamp(claim.deleted_at + claim.grace)
    return (PatchClaim({"annotations": {ANNOTATION_TERMINATION_TIME: until}}),)


def _cordon(node: Node) -> PatchNode | None:
    patch: dict[str, Any] = {}
    taints = merge_taints(node.spec.taints, (DISRUPTED,))
    if taints != list(node.spec.taints):
        patch["spec"] = {"taints": [msgspec.to_builtins(taint) for taint in taints]}
    if node.metadata.labels.get(LABEL_EXCLUDE_BALANCER) != "karpenter":
        patch["metadata"] = {"labels": {LABEL_EXCLUDE_BALANCER: "karpenter"}}
    return PatchNode(node.metadata.name, node.metadata.resourceVersion, patch) if patch else None


def _bury(seen: Observed) -> tuple[Action, ...]:
    """The machine is gone: its pods and its Node cannot end by themselves."""
    pods = [DeletePod(p.metadata.namespace, p.metadata.name, p.metadata.uid, 0) for p in seen.pods]
    nodes: list[Action] = []
    for node in seen.nodes:
        if TERMINATION_FINALIZER in node.metadata.finalizers:
            rest = [f for f in node.metadata.finalizers if f != TERMINATION_FINALIZER]
            version = node.metadata.resourceVersion
            nodes.append(PatchNode(node.metadata.name, version, {"metadata": {"finalizers": rest}}))
        if node.metadata.deletionTimestamp is None:
            nodes.append(DeleteNode(node.metadata.name, node.metadata.uid))
    return (*pods, *nodes)


def _release(claim: Claim) -> PatchClaim:
    return PatchClaim({"finalizers": [f for f in claim.finalizers if f != TERMINATION_FINALIZER]})
