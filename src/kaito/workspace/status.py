"""From a plan's verdicts to the status that is written: transition times, generations, and no needless write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import msgspec

from kaito.api.conditions import find, merge
from kaito.api.meta import Condition
from kaito.api.workspace import Workspace, WorkspaceStatus
from kaito.kube.errors import ApiError, Forbidden, Invalid
from kaito.workspace.actions import Status
from kaito.workspace.causes import ROUTINE, Cause

ROOTS = ("WorkspaceReady", "WorkspaceSucceeded")


def build_status(workspace: Workspace, wanted: Status, now: datetime) -> WorkspaceStatus:
    """The whole status as it shall be; equal to the present one when nothing changed."""
    generation = workspace.metadata.generation or None
    conditions = [msgspec.structs.replace(c, observedGeneration=generation) for c in wanted.conditions]
    return WorkspaceStatus(
        conditions=merge(workspace.status.conditions, conditions, now),
        workerNodes=list(wanted.worker_nodes),
        targetNodeCount=wanted.target_nodes,
        state=wanted.state,
        tuning=wanted.tuning,
        estimate=wanted.estimate,
        performance=workspace.status.performance,
    )


def with_refusal(wanted: Status, cause: Cause) -> Status:
    """The same status when the API refused to make an object: what was well so far stays, the roots say why."""
    conditions = tuple(
        Condition(c.type, "False", cause.reason, cause.text) if c.type in ROOTS else c for c in wanted.conditions
    )
    return replace(wanted, conditions=conditions)


def cause_of_refusal(what: str, error: ApiError) -> Cause:
    """Why the API server did not take an object of ours."""
    text = error.message
    if "failed calling webhook" in text:
        hint = "Mend that webhook, or remove its configuration."
        return Cause("WebhookUnreachable", f"{what} cannot be made: {text}", hint, "an admission webhook")
    if isinstance(error, Forbidden) and "exceeded quota" in text:
        hint = "Raise the namespace's ResourceQuota."
        return Cause("NamespaceQuotaExceeded", f"{what} cannot be made: {text}", hint, "you")
    if isinstance(error, Forbidden):
        hint = "Give the operator's service account that right."
        return Cause("NotPermitted", f"{what} cannot be made: {text}", hint, "you")
    reason = "ObjectRefused" if isinstance(error, Invalid) else "ApiRefused"
    return Cause(reason, f"{what} cannot be made: {text}", "", "the API server")


def transitions(before: Iterable[Condition], after: Iterable[Condition]) -> list[Condition]:
    """The conditions that changed so that a person would want to know: their status, or why they are False."""
    old = list(before)
    changed = []
    for condition in after:
        was = find(old, condition.type)
        if was is None or was.status != condition.status or was.reason != condition.reason:
            changed.append(condition)
    return changed


def is_routine_change(before: WorkspaceStatus, after: Status) -> bool:
    """Whether the new status says nothing but that work goes on: the same verdicts, for other routine reasons."""
    if before.tuning != after.tuning or len(before.conditions) != len(after.conditions):
        return False
    return all(_is_routine(find(before.conditions, condition.type), condition) for condition in after.conditions)


def _is_routine(before: Condition | None, after: Condition) -> bool:
    if before is None or before.status != after.status:
        return False
    return before.reason == after.reason or {before.reason, after.reason} <= ROUTINE
