"""Objects as an API server would hand them out, and small questions to plans."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from kaito.api.conditions import timestamp
from kaito.api.core import Generic
from kaito.api.meta import ObjectMeta, OwnerReference
from kaito.local.workloads.plan import Action, Create, Delete, Patch, Plan

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "kaito/runtime:1"}]},
}

_numbers = itertools.count(1)


def at(seconds: float) -> str:
    """A timestamp relative to NOW."""
    return timestamp(NOW + timedelta(seconds=seconds))


def meta(
    name: str, *, namespace: str = "default", uid: str = "", owner: Generic | None = None, **more: Any
) -> ObjectMeta:
    owners = []
    if owner is not None:
        owners = [OwnerReference("v1", "Owner", owner.metadata.name, owner.metadata.uid, controller=True)]
    more.setdefault("creationTimestamp", at(-3600 + next(_numbers)))
    return ObjectMeta(name=name, namespace=namespace, uid=uid or f"uid-{name}", ownerReferences=owners, **more)


def pod(
    name: str,
    *,
    phase: str = "Running",
    ready: bool = False,
    ready_at: float = -60.0,
    restarts: int = 0,
    exit_code: int | None = None,
    finished_at: float = -1.0,
    spec: dict[str, Any] | None = None,
    **metadata: Any,
) -> Generic:
    state = {"terminated": {"exitCode": exit_code, "finishedAt": at(finished_at)}} if exit_code is not None else {}
    status: dict[str, Any] = {
        "phase": phase,
        "containerStatuses": [{"name": "c", "restartCount": restarts, "state": state}],
    }
    if ready:
        status["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": at(ready_at)}]
    metadata.setdefault("labels", {"app": "web"})
    return Generic(meta(name, **metadata), {"nodeName": "n", **(spec or {})}, status)


def creates(plan: Plan | tuple[Action, ...]) -> list[Create]:
    return [action for action in _actions(plan) if isinstance(action, Create)]


def deleted(plan: Plan | tuple[Action, ...]) -> list[str]:
    return [action.name for action in _actions(plan) if isinstance(action, Delete)]


def patches(plan: Plan | tuple[Action, ...], subresource: str = "") -> list[Patch]:
    return [a for a in _actions(plan) if isinstance(a, Patch) and a.subresource == subresource]


def status_of(plan: Plan) -> dict[str, Any]:
    """The status that the plan writes; empty when it writes none."""
    written = patches(plan, "status")
    return dict(written[0].body["status"]) if written else {}


def _actions(plan: Plan | tuple[Action, ...]) -> tuple[Action, ...]:
    return plan.actions if isinstance(plan, Plan) else plan
