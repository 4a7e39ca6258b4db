"""The rows of workloads: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob and what goes with them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from kaito.local.machinery.ages import age, human_duration, parse_time
from kaito.local.machinery.printing import (
    NONE,
    Printer,
    columns,
    container_cells,
    count,
    created,
    format_labels,
    format_selector,
    items,
    join,
    name,
    section,
)

Json = dict[str, Any]


def _template(obj: Json) -> list[str]:
    return container_cells(section(obj, "spec", "template", "spec"))


def _selector(obj: Json) -> str:
    return format_selector(section(obj, "spec", "selector"))


def _number(obj: Json, *keys: str) -> int:
    found = section(obj, *keys[:-1]).get(keys[-1])
    return found if isinstance(found, int) else 0


def _desired(obj: Json) -> int:
    found = section(obj, "spec").get("replicas")
    return found if isinstance(found, int) else 1


def _deployment(obj: Json, now: datetime) -> list[Any]:
    return [
        name(obj),
        f"{_number(obj, 'status', 'readyReplicas')}/{_desired(obj)}",
        _number(obj, "status", "updatedReplicas"),
        _number(obj, "status", "availableReplicas"),
        created(obj, now),
        *_template(obj),
        _selector(obj),
    ]


def _replica_set(obj: Json, now: datetime) -> list[Any]:
    return [
        name(obj),
        _desired(obj),
        _number(obj, "status", "replicas"),
        _number(obj, "status", "readyReplicas"),
        created(obj, now),
        *_template(obj),
        _selector(obj),
    ]


def _stateful_set(obj: Json, now: datetime) -> list[Any]:
    ready = f"{_number(obj, 'status', 'readyReplicas')}/{_desired(obj)}"
    return [name(obj), ready, created(obj, now), *_template(obj)]


def _daemon_set(obj: Json, now: datetime) -> list[Any]:
    return [
        name(obj),
        _number(obj, "status", "desiredNumberScheduled"),
        _number(obj, "status", "currentNumberScheduled"),
        _number(obj, "status", "numberReady"),
        _number(obj, "status", "updatedNumberScheduled"),
        _number(obj, "status", "numberAvailable"),
        format_labels(section(obj, "spec", "template", "spec").get("nodeSelector")),
        created(obj, now),
        *_template(obj),
        _selector(obj),
    ]


def _controller_revision(obj: Json, now: datetime) -> list[Any]:
    owner = next((item for item in items(obj, "metadata", "ownerReferences") if item.get("controller")), None)
    controller = NONE
    if owner is not None:
        group = str(owner.get("apiVersion", "")).rpartition("/")[0]
        kind = str(owner.get("kind", "")).lower()
        controller = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [name(obj), controller, obj.get("revision", 0), created(obj, now)]


_JOB_STATES: Final = (
    ("Complete", "Complete"),
    ("Failed", "Failed"),
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


def _job_state(obj: Json) -> str:
    met = {item.get("type") for item in items(obj, "status", "conditions") if item.get("status") == "True"}
    for kind, word in _JOB_STATES[:2]:
        if kind in met:
            return word
    if section(obj, "metadata").get("deletionTimestamp"):
        return "Terminating"
    return next((word for kind, word in _JOB_STATES[2:] if kind in met), "Running")


def _completions(obj: Json) -> str:
    spec = section(obj, "spec")
    done = _number(obj, "status", "succeeded")
    if isinstance(spec.get("completions"), int):
        return f"{done}/{spec['completions']}"
    parallelism = spec.get("parallelism")
    if isinstance(parallelism, int) and parallelism > 1:
        return f"{done}/1 of {parallelism}"
    return f"{done}/1"


def _job_duration(obj: Json, now: datetime) -> str:
    status = section(obj, "status")
    started = parse_time(status.get("startTime"))
    if started is None:
        return ""
    ended = parse_time(status.get("completionTime")) or _failed_at(obj) or now
    return human_duration((ended - started).total_seconds())


def _failed_at(obj: Json) -> datetime | None:
    failed = (item for item in items(obj, "status", "conditions") if item.get("type") == "Failed")
    return next((parse_time(item.get("lastTransitionTime")) for item in failed if item.get("status") == "True"), None)


def _job(obj: Json, now: datetime) -> list[Any]:
    return [
        name(obj),
        _job_state(obj),
        _completions(obj),
        _job_duration(obj, now),
        created(obj, now),
        *_template(obj),
        _selector(obj),
    ]


def _cron_job(obj: Json, now: datetime) -> list[Any]:
    spec, status = section(obj, "spec"), section(obj, "status")
    last = status.get("lastScheduleTime")
    template = section(spec, "jobTemplate", "spec")
    return [
        name(obj),
        str(spec.get("schedule", "")),
        str(spec.get("timeZone") or NONE),
        str(spec.get("suspend", False)),
        count(status.get("active")),
        age(last, now) if last else NONE,
        created(obj, now),
        *container_cells(section(template, "template", "spec")),
        format_selector(section(template, "selector")),
    ]


def _disruption_budget(obj: Json, now: datetime) -> list[Any]:
    spec = section(obj, "spec")
    bounds = [str(spec[key]) if spec.get(key) is not None else "N/A" for key in ("minAvailable", "maxUnavailable")]
    return [name(obj), *bounds, _number(obj, "status", "disruptionsAllowed"), created(obj, now)]


def _autoscaler(obj: Json, now: datetime) -> list[Any]:
    spec = section(obj, "spec")
    target = section(spec, "scaleTargetRef")
    return [
        name(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        join((_metric(metric) for metric in items(spec, "metrics")), ", ") or NONE,
        str(spec.get("minReplicas", NONE)),
        spec.get("maxReplicas", 0),
        _number(obj, "status", "currentReplicas"),
        created(obj, now),
    ]


def _metric(metric: Json) -> str:
    """A metric of an autoscaler. None is measured here, so that what is stays unknown."""
    resource = section(metric, "resource")
    target = section(resource, "target")
    if not resource:
        return f"<unknown> {metric.get('type', '')}"
    percent = target.get("averageUtilization")
    aim = f"{percent}%" if percent is not None else str(target.get("averageValue") or target.get("value") or "<auto>")
    return f"{resource.get('name', '')}: <unknown>/{aim}"


_TEMPLATE_COLUMNS: Final = "Containers*, Images*, Selector*"

PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    ("apps", "Deployment"): Printer(
        columns(f"Name, Ready, Up-to-date, Available, Age, {_TEMPLATE_COLUMNS}"), _deployment
    ),
    ("apps", "ReplicaSet"): Printer(
        columns(f"Name, Desired:integer, Current:integer, Ready:integer, Age, {_TEMPLATE_COLUMNS}"), _replica_set
    ),
    ("apps", "StatefulSet"): Printer(columns("Name, Ready, Age, Containers*, Images*"), _stateful_set),
    ("apps", "DaemonSet"): Printer(
        columns(
            "Name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, "
            f"Node Selector, Age, {_TEMPLATE_COLUMNS}"
        ),
        _daemon_set,
    ),
    ("apps", "ControllerRevision"): Printer(columns("Name, Controller, Revision, Age"), _controller_revision),
    ("batch", "Job"): Printer(columns(f"Name, Status, Completions, Duration, Age, {_TEMPLATE_COLUMNS}"), _job),
    ("batch", "CronJob"): Printer(
        columns(f"Name, Schedule, Timezone, Suspend:boolean, Active:integer, Last Schedule, Age, {_TEMPLATE_COLUMNS}"),
        _cron_job,
    ),
    ("policy", "PodDisruptionBudget"): Printer(
        columns("Name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age"), _disruption_budget
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): Printer(
        columns("Name, Reference, Targets, MinPods, MaxPods, Replicas, Age"), _autoscaler
    ),
}
