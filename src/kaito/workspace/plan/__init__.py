"""From the picture to the plan: pure, one planner per condition, put together here."""

from __future__ import annotations

from dataclasses import replace

from kaito.api.karpenter import LABEL_NODEPOOL
from kaito.api.meta import Condition
from kaito.api.workspace import FINALIZER, TuningStatus
from kaito.kube.resources import CONFIG_MAPS, NODE_POOLS
from kaito.workspace.actions import Action, Apply, Delete, Plan, Status
from kaito.workspace.causes import ROUTINE, Cause
from kaito.workspace.observe import Observed
from kaito.workspace.plan.engine import resolve_engine_config
from kaito.workspace.plan.inputs import Inputs, plan_inputs
from kaito.workspace.plan.nodes import NodePlan, claim_condition_type, plan_nodes
from kaito.workspace.plan.promotion import cause_of_no_promotion
from kaito.workspace.plan.root import root_conditions, state_of
from kaito.workspace.plan.serving import ServingPlan, pending_serving, plan_serving, serves, stop_serving
from kaito.workspace.plan.sizing import Sizing, plan_sizing
from kaito.workspace.plan.tuning import TuningPlan, plan_tuning
from kaito.workspace.render.config import render_config

LEGACY_PAUSE = 1.0
AFTER_TUNING = Cause("AwaitingTuning", "The model is served when its training is done")


def plan(observed: Observed) -> Plan:
    if observed.is_deleting:
        return _plan_deletion(observed)
    inputs = plan_inputs(observed)
    if inputs.cause is not None:
        return _plan_fault(observed, inputs.cause)
    sizing = plan_sizing(observed, inputs.config_text)
    if sizing.cause is not None:
        return _plan_fault(observed, sizing.cause, sizing)
    nodes = plan_nodes(observed, sizing)
    if observed.workspace.inference is not None:
        inputs = replace(inputs, config_text=resolve_engine_config(inputs.config_text, observed.workspace, sizing))
    tuning = plan_tuning(observed, inputs, sizing, nodes) if observed.workspace.tuning else None
    serving = _serving(observed, inputs, sizing, nodes, tuning)
    cause = _deepest(nodes, tuning, serving)
    config = Apply(CONFIG_MAPS, observed.workspace.metadata.namespace, _config(observed, inputs))
    actions: tuple[Action, ...] = (
        config,
        *nodes.actions,
        *(tuning.actions if tuning else ()),
        *serving.actions,
        *(nodes.surplus if cause is None else ()),
    )
    return Plan(
        actions=actions,
        status=Status(
            conditions=_conditions(nodes, tuning, serving, cause),
            worker_nodes=nodes.worker_nodes,
            target_nodes=sizing.nodes,
            state=state_of(observed, cause, tuning, serving),
            tuning=tuning.status if tuning and tuning.status != TuningStatus() else None,
            estimate=sizing.status,
        ),
        finalizer=_wants_finalizer(observed),
        # Nobody watches an earlier KAITO's servers, so nothing wakes us when they are gone.
        requeue_after=LEGACY_PAUSE if observed.legacy else nodes.requeue_after,
    )


def _config(observed: Observed, inputs: Inputs) -> dict[str, object]:
    return render_config(observed.workspace, inputs.config_text)


def _serving(
    observed: Observed, inputs: Inputs, sizing: Sizing, nodes: NodePlan, tuning: TuningPlan | None
) -> ServingPlan:
    if not serves(observed.workspace):
        return ServingPlan((), None)
    if tuning is not None and not tuning.is_done:
        cause = tuning.cause if tuning.is_failed and tuning.cause else AFTER_TUNING
        return pending_serving(cause)
    not_promoted = cause_of_no_promotion(observed.workspace, tuning.status) if tuning else None
    if not_promoted is not None:
        return stop_serving(observed, not_promoted)
    return plan_serving(observed, inputs, sizing, nodes, tuning.status if tuning else None)


def _deepest(nodes: NodePlan, tuning: TuningPlan | None, serving: ServingPlan) -> Cause | None:
    """What all else waits for: trouble with the nodes, before work that only seems to go its way on them."""
    if tuning is not None and not tuning.is_done:
        found = tuning.cause
    elif serving.condition is None:
        return None
    else:
        found = serving.cause or nodes.cause
    is_quiet = found is None or found.reason in ROUTINE
    return nodes.cause if nodes.cause is not None and is_quiet else found


def _conditions(
    nodes: NodePlan, tuning: TuningPlan | None, serving: ServingPlan, cause: Cause | None
) -> tuple[Condition, ...]:
    return (
        *nodes.conditions,
        *(tuning.conditions if tuning else ()),
        *((serving.condition,) if serving.condition else ()),
        *root_conditions(cause, tuning),
    )


def _plan_fault(observed: Observed, cause: Cause, sizing: Sizing | None = None) -> Plan:
    """Nothing is made, and nothing that runs is taken away, until the user mends what is wrong."""
    before = observed.workspace.status
    kinds = ["ResourceReady", "WorkspaceReady", "WorkspaceSucceeded"]
    if observed.workspace.tuning is not None:
        kinds[1:1] = ["JobStarted", "TuningSucceeded"]
    if serves(observed.workspace):
        kinds.insert(-2, "InferenceReady")
    return Plan(
        status=Status(
            conditions=tuple(Condition(kind, "False", cause.reason, cause.text) for kind in kinds),
            worker_nodes=tuple(before.workerNodes),
            target_nodes=sizing.nodes if sizing else before.targetNodeCount,
            state="NotReady" if before.state in ("Ready", "NotReady") else "Failed",
            tuning=before.tuning,
            estimate=sizing.status if sizing else before.estimate,
        ),
        finalizer=_wants_finalizer(observed),
    )


def _wants_finalizer(observed: Observed) -> bool | None:
    """Only what has to be cleaned up by us needs our finalizer: claims, which no owner reference can hold."""
    has_it = FINALIZER in observed.workspace.metadata.finalizers
    return None if has_it or observed.settings.node_mode == "byo" else True


def _plan_deletion(observed: Observed) -> Plan:
    """Delete what asked for nodes, then let go: the node provisioner finishes it by its own finalizer."""
    actions = _release_nodes(observed)
    before = observed.workspace.status
    deleting = Condition("WorkspaceDeleting", "True", "workspaceDeleted", "The Workspace is being deleted.")
    kept = tuple(c for c in before.conditions if c.type != "WorkspaceDeleting")
    return Plan(
        actions=actions,
        status=Status(
            conditions=(*kept, deleting),
            worker_nodes=tuple(before.workerNodes),
            target_nodes=before.targetNodeCount,
            state="Deleting",
            tuning=before.tuning,
            estimate=before.estimate,
        )
        if actions
        else None,
        finalizer=False if FINALIZER in observed.workspace.metadata.finalizers else None,
    )


def _release_nodes(observed: Observed) -> tuple[Delete, ...]:
    """The pool takes its claims along; it would make new ones for those that we deleted ourselves."""
    api, pool = observed.claim_api, observed.node_pool
    if api is None:
        return ()
    pools = [pool] if pool is not None and pool.metadata.deletionTimestamp is None else []
    claims = [
        claim
        for claim in observed.claims
        if claim.metadata.deletionTimestamp is None and not (pool and LABEL_NODEPOOL in claim.metadata.labels)
    ]
    return (
        *(Delete(NODE_POOLS, "", pool.metadata.name, pool.metadata.uid) for pool in pools),
        *(Delete(api, "", claim.metadata.name, claim.metadata.uid) for claim in claims),
    )


__all__ = ["claim_condition_type", "plan"]
