"""A pod's status, from what its containers are. Pure: the same containers give the same status, so that in steady state
nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kaito.api.conditions import timestamp
from kaito.local.agent.lifecycle import FAILED, FINAL, SUCCEEDED
from kaito.local.agent.run import Exit

HOST_IP = "127.0.0.1"
OWN_CONDITIONS = ("Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(frozen=True)
class ContainerReport:
    """What the status says of one container."""

    name: str
    image: str
    restarts: int = 0
    running_since: str = ""
    """RFC 3339; empty when it does not run."""
    ended: Exit | None = None
    previous: Exit | None = None
    waiting: tuple[str, str] | None = None
    """Reason and message, when it is to be started (again)."""
    started: bool = False
    ready: bool = False
    container_id: str = ""


@dataclass(frozen=True)
class PodReport:
    phase: str
    pod_ip: str
    start_time: str
    initialized: bool
    inits: Sequence[ContainerReport] = ()
    mains: Sequence[ContainerReport] = ()
    reason: str = ""
    message: str = ""
    sidecars: frozenset[str] = field(default_factory=frozenset)


def render_status(pod: Mapping[str, Any], report: PodReport, now: datetime) -> dict[str, Any]:
    """The status to write: every key that the agent owns, with None for what must not be there."""
    spec, old = pod["spec"], pod.get("status") or {}
    status: dict[str, Any] = {
        "phase": report.phase,
        "reason": report.reason or None,
        "message": report.message or None,
        "hostIP": HOST_IP,
        "hostIPs": [{"ip": HOST_IP}],
        "podIP": report.pod_ip,
        "podIPs": [{"ip": report.pod_ip}],
        "startTime": report.start_time,
        "qosClass": qos_class(spec),
        "containerStatuses": [_container_status(container, is_init=False) for container in report.mains],
        "conditions": _conditions(pod, report, old.get("conditions") or [], now),
    }
    if report.inits:
        status["initContainerStatuses"] = [
            _container_status(container, is_init=container.name not in report.sidecars) for container in report.inits
        ]
    return status


def _container_status(report: ContainerReport, *, is_init: bool) -> dict[str, Any]:
    state = _state(report)
    last = _terminated(report.previous) if report.previous else None
    if report.ended and "waiting" in state:
        last = _terminated(report.ended)
    done = bool(is_init and report.ended and report.ended.succeeded)
    status: dict[str, Any] = {
        "name": report.name,
        "image": report.image,
        "imageID": report.image,
        "ready": report.ready or done,
        "started": report.started,
        "restartCount": report.restarts,
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }
    if report.container_id:
        status["containerID"] = report.container_id
    return status


def _state(report: ContainerReport) -> dict[str, Any]:
    if report.running_since:
        return {"running": {"startedAt": _seconds(report.running_since)}}
    if report.waiting:
        reason, message = report.waiting
        return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    if report.ended:
        return {"terminated": _terminated(report.ended)}
    return {"waiting": {"reason": "ContainerCreating"}}


def _terminated(end: Exit) -> dict[str, Any]:
    optional = {"signal": end.signal, "message": end.message}
    times = {"startedAt": _seconds(end.started_at) or None, "finishedAt": _seconds(end.finished_at) or None}
    known = {key: value for key, value in optional.items() if value}
    return {"exitCode": end.code, "reason": end.reason, **known, **times}


def _seconds(time: str) -> str:
    """The API's times are in whole seconds."""
    return time[:19] + "Z" if len(time) > 20 else time


def _conditions(
    pod: Mapping[str, Any], report: PodReport, old: Sequence[Mapping[str, Any]], now: datetime
) -> list[dict[str, Any]]:
    unready = [container.name for container in report.mains if not container.ready]
    undone = [c.name for c in report.inits if not (c.started if c.name in report.sidecars else _is_done(c))]
    initialized = _condition(
        "Initialized",
        report.initialized or report.phase == SUCCEEDED,
        "ContainersNotInitialized",
        f"containers with incomplete status: [{' '.join(undone)}]",
    )
    if report.phase in FINAL:
        reason, message = ("PodCompleted", "") if report.phase == SUCCEEDED else ("PodFailed", "")
        containers_ready = _condition("ContainersReady", False, reason, message)
    else:
        words = f"containers with unready status: [{' '.join(unready)}]"
        containers_ready = _condition("ContainersReady", not unready, "ContainersNotReady", words)
    ready = {**containers_ready, "type": "Ready"}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    shut = [gate for gate in gates if not any(c["type"] == gate and c["status"] == "True" for c in old)]
    if ready["status"] == "True" and shut:
        ready = _condition("Ready", False, "ReadinessGatesNotReady", f"readiness gates not True: {', '.join(shut)}")
    scheduled = _condition("PodScheduled", True, "", "")
    ours = [_dated(condition, old, now) for condition in (initialized, ready, containers_ready, scheduled)]
    return ours + [dict(condition) for condition in old if condition["type"] not in OWN_CONDITIONS]


def _is_done(container: ContainerReport) -> bool:
    return bool(container.ended and container.ended.succeeded)


def _condition(type_: str, holds: bool, reason: str, message: str) -> dict[str, Any]:
    if holds:
        return {"type": type_, "status": "True"}
    words = {"message": message} if message else {}
    return {"type": type_, "status": "False", "reason": reason, **words}


def _dated(condition: dict[str, Any], old: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    before = next((c for c in old if c["type"] == condition["type"]), None)
    same = before is not None and before["status"] == condition["status"] and before.get("lastTransitionTime")
    since = same if before is not None and same else timestamp(now)
    return {**condition, "lastProbeTime": None, "lastTransitionTime": since}


def qos_class(spec: Mapping[str, Any]) -> str:
    """Guaranteed when every container limits CPU and memory to what it requests; BestEffort when none asks for any."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    resources = [container.get("resources") or {} for container in containers]
    requests = [{k: v for k, v in (r.get("requests") or {}).items() if k in ("cpu", "memory")} for r in resources]
    limits = [{k: v for k, v in (r.get("limits") or {}).items() if k in ("cpu", "memory")} for r in resources]
    if not any(requests) and not any(limits):
        return "BestEffort"
    full = all(set(limit) == {"cpu", "memory"} for limit in limits)
    same = all(not request or request == limit for request, limit in zip(requests, limits, strict=True))
    return "Guaranteed" if full and same else "Burstable"


__all__ = ["FAILED", "HOST_IP", "ContainerReport", "PodReport", "qos_class", "render_status"]
