"""One claim, one pass: the sub-reconcilers in order, the root condition, the deadlines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from kaito.api.karpenter import TERMINATION_FINALIZER
from kaito.api.meta import Condition
from kaito.nodes.claim import READY, Claim
from kaito.nodes.lifecycle.deadlines import plan_deadlines
from kaito.nodes.lifecycle.health import plan_health
from kaito.nodes.lifecycle.initialization import plan_initialization
from kaito.nodes.lifecycle.launch import plan_launch
from kaito.nodes.lifecycle.registration import plan_registration, required_labels
from kaito.nodes.lifecycle.termination import plan_termination
from kaito.nodes.lifecycle.world import Action, CreateInstance, Observed, PatchClaim, Plan, Step


def plan_claim(seen: Observed) -> Plan:
    """Everything that there is to do for the claim now."""
    if seen.claim.deleted_at is not None:
        return plan_termination(seen)
    guard = _finalizer(seen.claim)
    launch = plan_launch(seen)
    assert launch.condition is not None
    registration = plan_registration(seen, launch.condition)
    assert registration.condition is not None
    initialization = plan_initialization(seen, registration.condition)
    assert initialization.condition is not None
    steps = [launch, registration, initialization]
    conditions = [launch.condition, registration.condition, initialization.condition]
    follow_up = plan_deadlines(seen, conditions)
    if follow_up.condition is not None:
        conditions = [follow_up.condition if c.type == follow_up.condition.type else c for c in conditions]
    steps += [follow_up, plan_health(seen, conditions)]
    actions = (*guard, *(action for step in steps for action in step.actions))
    return Plan(actions, _status(seen.claim, steps, conditions, actions), _earliest(steps))


def _finalizer(claim: Claim) -> tuple[Action, ...]:
    """Before anything costs money, the claim must not be able to vanish. The same write labels it as Karpenter does,
    for the columns of `kubectl get nodeclaims`.
    """
    if claim.has_finalizer:
        return ()
    metadata: dict[str, Any] = {"finalizers": [*claim.finalizers, TERMINATION_FINALIZER]}
    labels = {key: value for key, value in required_labels(claim).items() if key not in claim.labels}
    return (PatchClaim({**metadata, **({"labels": labels} if labels else {})}),)


def _status(
    claim: Claim, steps: Iterable[Step], conditions: list[Condition], actions: tuple[Action, ...]
) -> Claim | None:
    """The claim with its new status. Nothing is written before a create: what it brings will be told at once."""
    if any(isinstance(action, CreateInstance) for action in actions):
        return None
    fields = {key: value for step in steps for key, value in step.status.items()}
    return replace(claim, conditions=(*conditions, root_condition(conditions)), **fields)


def root_condition(conditions: Sequence[Condition]) -> Condition:
    """Ready: derived from the others, worded as Karpenter words it."""
    if all(c.status == "True" for c in conditions):
        return Condition(type=READY, status="True", reason=READY)
    message = ", ".join(f"{c.type}={c.status}" for c in conditions if c.status != "True")
    if any(c.status == "False" for c in conditions):
        return Condition(type=READY, status="False", reason="UnhealthyDependents", message=message)
    return Condition(type=READY, status="Unknown", reason="ReconcilingDependents", message=message)


def _earliest(steps: Iterable[Step]) -> float | None:
    return min((step.requeue_after for step in steps if step.requeue_after is not None), default=None)
