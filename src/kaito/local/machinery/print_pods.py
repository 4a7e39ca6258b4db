"""The row of a pod. Its STATUS is what people look at first, so the rules are those of kubectl, case by case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.local.machinery.ages import human_duration, parse_time
from kaito.local.machinery.printing import Printer, columns, created, items, name, or_none, section

Json = dict[str, Any]


@dataclass(frozen=True)
class PodSummary:
    """What the cells of a pod say. `last_restart` is the time of the latest one that is known."""

    status: str
    ready: int
    total: int
    restarts: int
    last_restart: datetime | None


def summarize(pod: Json) -> PodSummary:
    """The words of READY, STATUS and RESTARTS."""
    status = section(pod, "status")
    reason = str(status.get("reason") or status.get("phase") or "Unknown")
    if _condition(status, "PodScheduled").get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    init = items(pod, "spec", "initContainers")
    sidecars = {item.get("name") for item in init if item.get("restartPolicy") == "Always"}
    total = len(items(pod, "spec", "containers")) + len(sidecars)
    statuses = items(pod, "status", "initContainerStatuses")
    blocked = _init_reason(statuses, len(init), sidecars)
    ready = sum(1 for item in statuses if item.get("name") in sidecars and item.get("ready") is True)
    restarts, counted = _restarts(statuses), statuses
    if not blocked or _condition(status, "Initialized").get("status") == "True":
        containers = items(pod, "status", "containerStatuses")
        reason = _container_reason(containers, status, reason)
        ready += sum(1 for item in containers if item.get("ready") is True and "running" in section(item, "state"))
        counted = [item for item in statuses if item.get("name") in sidecars] + containers
        restarts = _restarts(counted)
    else:
        reason = blocked
    return PodSummary(_deleting(pod, status, reason), ready, total, restarts, _last_restart(counted))


def _condition(status: Json, kind: str) -> Json:
    return next((item for item in items(status, "conditions") if item.get("type") == kind), {})


def _init_reason(statuses: list[Json], count: int, sidecars: set[Any]) -> str:
    """Why the init containers are not done, such as `Init:0/3`; empty when they are."""
    for index, item in enumerate(statuses):
        state = section(item, "state")
        ended, waiting = state.get("terminated"), section(state, "waiting").get("reason")
        if isinstance(ended, dict) and ended.get("exitCode") == 0:
            continue
        if item.get("name") in sidecars and item.get("started") is True:
            continue
        if isinstance(ended, dict):
            return f"Init:{_termination(ended)}"
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{index}/{count}"
    return ""


def _termination(ended: Json) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _container_reason(containers: list[Json], status: Json, reason: str) -> str:
    running = False
    for item in reversed(containers):
        state = section(item, "state")
        ended = state.get("terminated")
        waiting = section(state, "waiting").get("reason")
        if waiting:
            reason = str(waiting)
        elif isinstance(ended, dict):
            reason = _termination(ended)
        elif item.get("ready") is True and "running" in state:
            running = True
    if reason == "Completed" and running:
        return "Running" if _condition(status, "Ready").get("status") == "True" else "NotReady"
    return reason


def _deleting(pod: Json, status: Json, reason: str) -> str:
    if not section(pod, "metadata").get("deletionTimestamp"):
        return reason
    if status.get("reason") == "NodeLost":
        return "Unknown"
    return reason if status.get("phase") in ("Succeeded", "Failed") else "Terminating"


def _restarts(statuses: Iterable[Json]) -> int:
    return sum(item["restartCount"] for item in statuses if isinstance(item.get("restartCount"), int))


def _last_restart(statuses: Iterable[Json]) -> datetime | None:
    times = (parse_time(section(item, "lastState", "terminated").get("finishedAt")) for item in statuses)
    return max((found for found in times if found is not None), default=None)


def _cells(pod: Json, now: datetime) -> list[Any]:
    summary = summarize(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart is not None:
        restarts += f" ({human_duration((now - summary.last_restart).total_seconds())} ago)"
    spec, status = section(pod, "spec"), section(pod, "status")
    addresses = items(pod, "status", "podIPs")
    address = addresses[0].get("ip") if addresses else status.get("podIP")
    return [
        name(pod),
        f"{summary.ready}/{summary.total}",
        summary.status,
        restarts,
        created(pod, now),
        or_none(address),
        or_none(spec.get("nodeName")),
        or_none(status.get("nominatedNodeName")),
        _gates(spec, status),
    ]


def _gates(spec: Json, status: Json) -> str:
    gates = items(spec, "readinessGates")
    if not gates:
        return or_none("")
    met = sum(1 for gate in gates if _condition(status, str(gate.get("conditionType"))).get("status") == "True")
    return f"{met}/{len(gates)}"


POD = Printer(
    columns("Name, Ready, Status, Restarts, Age, IP*, Node*, Nominated Node*, Readiness Gates*"),
    _cells,
)


def row_conditions(pod: Json) -> list[Json]:
    """What marks the row of a pod that has ended."""
    phase = section(pod, "status").get("phase")
    message = {
        "Succeeded": "The pod has completed successfully.",
        "Failed": "The pod failed.",
    }.get(str(phase))
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}] if message else []
