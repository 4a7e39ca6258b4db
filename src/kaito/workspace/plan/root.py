"""WorkspaceReady, WorkspaceSucceeded and `state`: derived from the other verdicts, never set by themselves."""

from __future__ import annotations

from kaito.api.meta import Condition
from kaito.workspace.causes import Cause
from kaito.workspace.observe import Observed
from kaito.workspace.plan.serving import ServingPlan
from kaito.workspace.plan.tuning import TuningPlan


def root_conditions(cause: Cause | None, tuning: TuningPlan | None) -> tuple[Condition, Condition]:
    """`cause` is the deepest one found, None when all that is wanted is there."""
    ready = _condition("WorkspaceReady", cause, "workspaceReady", "The Workspace is ready.")
    if tuning is None:
        return ready, _condition("WorkspaceSucceeded", cause, "workspaceSucceeded", "The model is served.")
    wanting = None if tuning.is_done else (tuning.cause or cause)
    return ready, _condition("WorkspaceSucceeded", wanting, "workspaceSucceeded", "The training is done.")


def state_of(observed: Observed, cause: Cause | None, tuning: TuningPlan | None, serving: ServingPlan) -> str:
    """One word: Pending, Running, Succeeded, Ready, NotReady or Failed."""
    if tuning is not None and not tuning.is_done:
        return "Failed" if tuning.is_failed else "Running" if tuning.is_running else "Pending"
    if cause is None:
        return "Ready" if serving.condition is not None else "Succeeded"
    if observed.workspace.status.state in ("Ready", "NotReady"):
        return "NotReady"
    return "Pending" if tuning is None else "Succeeded"


def _condition(kind: str, cause: Cause | None, reason: str, message: str) -> Condition:
    if cause is None:
        return Condition(kind, "True", reason, message)
    return Condition(kind, "False", cause.reason, cause.text)
