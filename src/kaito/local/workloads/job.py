"""Job: pods until enough of them succeeded, or too many failed, or time is up.

Pods with `restartPolicy: OnFailure` restart in place, by the node agent; here they count against `backoffLimit` by
their restarts, as in Kubernetes. Only a pod in phase Failed, or one that somebody deleted, is replaced, and only after
a back-off. Counts of pods that are gone come from `Tally`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kaito.api.conditions import parse_timestamp, timestamp
from kaito.api.core import Generic
from kaito.local.workloads.job_indexes import (
    completed_indexes,
    duplicates,
    format_indexes,
    indexed_body,
    is_indexed,
    next_indexes,
)
from kaito.local.workloads.job_policy import failure_verdict, is_ignored
from kaito.local.workloads.objects import (
    condition_of,
    is_active,
    is_ready,
    is_terminating,
    oldest_first,
    phase,
    restart_count,
)
from kaito.local.workloads.plan import Action, Announce, Create, Delete, Plan, delete, earliest, patch_status
from kaito.local.workloads.replica_set import pod_body, rank_for_deletion
from kaito.local.workloads.resources import JOBS, PODS

FIRST_BACKOFF = 10.0
LAST_BACKOFF = 600.0
DEFAULT_BACKOFF_LIMIT = 6


@dataclass(frozen=True)
class Tally:
    """What the pods that are no longer there had come to."""

    succeeded: int = 0
    failed: int = 0
    excused: frozenset[str] = frozenset()
    """Pods that the controller itself deleted while they ran, by uid: they do not count as failed."""


@dataclass(frozen=True)
class Observed:
    job: Generic
    pods: Sequence[Generic]
    tally: Tally
    now: datetime


@dataclass(frozen=True)
class Verdict:
    """How a Job ends."""

    type: str  # Complete or Failed
    reason: str
    message: str


@dataclass(frozen=True)
class Census:
    """The pods of a Job by what they have come to."""

    active: Sequence[Generic]
    succeeded: Sequence[Generic]
    failed: Sequence[Generic]
    terminating: int


def plan_job(observed: Observed) -> Plan:
    job = observed.job
    if job.metadata.deletionTimestamp is not None:
        return Plan()
    finished = finished_condition(job)
    if finished:
        return _after_the_end(observed, finished)
    census = count_pods(job, observed.pods, observed.tally)
    verdict = _verdict(observed, census)
    if verdict:
        return _end(observed, census, verdict)
    if job.spec.get("suspend"):
        return _suspend(observed, census)
    actions, wait = _run(observed, census)
    return Plan((*actions, *_status(observed, census, actions)), earliest(wait, _deadline(observed)))


def finished_condition(job: Generic) -> dict[str, Any] | None:
    conditions = (condition_of(job.status, type_) for type_ in ("Complete", "Failed"))
    return next((c for c in conditions if c and c.get("status") == "True"), None)


def count_pods(job: Generic, pods: Sequence[Generic], tally: Tally) -> Census:
    """A pod that is being deleted before it finished has failed, unless the controller itself deletes it."""
    failed, terminating = [], 0
    for pod in pods:
        is_leaving = is_terminating(pod) and phase(pod) not in ("Succeeded", "Failed")
        terminating += is_leaving
        has_failed = is_leaving or (phase(pod) == "Failed" and not is_ignored(job, pod))
        if has_failed and pod.metadata.uid not in tally.excused:
            failed.append(pod)
    return Census(
        active=oldest_first(pod for pod in pods if is_active(pod)),
        succeeded=[pod for pod in pods if phase(pod) == "Succeeded"],
        failed=failed,
        terminating=terminating,
    )


def _verdict(observed: Observed, census: Census) -> Verdict | None:
    spec = observed.job.spec
    by_policy = failure_verdict(observed.job, census.failed)
    if by_policy:
        return Verdict("Failed", "PodFailurePolicy", by_policy)
    limit = int(spec.get("backoffLimit", DEFAULT_BACKOFF_LIMIT))
    if observed.tally.failed + len(census.failed) > limit or _has_restarted_too_often(spec, census, limit):
        return Verdict("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = _deadline(observed)
    if left is not None and left <= 0:
        return Verdict("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    if _is_complete(observed, census):
        return Verdict("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def _has_restarted_too_often(spec: dict[str, Any], census: Census, limit: int) -> bool:
    if spec.get("template", {}).get("spec", {}).get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(restart_count(pod) for pod in census.active)
    return restarts > 0 if limit == 0 else restarts >= limit


def _is_complete(observed: Observed, census: Census) -> bool:
    succeeded = _succeeded(observed, census)
    completions = observed.job.spec.get("completions")
    if completions is None:  # A work queue: one success means that the queue is empty.
        return succeeded > 0 and not census.active
    return succeeded >= int(completions)


def _succeeded(observed: Observed, census: Census) -> int:
    """Pods that succeeded; of an indexed Job, indexes that are done."""
    if is_indexed(observed.job):
        return len(completed_indexes(observed.job, census.succeeded))
    return observed.tally.succeeded + len(census.succeeded)


def _end(observed: Observed, census: Census, verdict: Verdict) -> Plan:
    """The surplus pods go first; the verdict is written in the same step, and counts the pods that go."""
    job, now = observed.job, observed.now
    status = _counts(observed, census, active=0)
    if verdict.type == "Complete":
        status["completionTime"] = timestamp(now)
    else:
        status["failed"] = (status["failed"] or 0) + len(census.active) or None
    status["conditions"] = [*_other_conditions(job, verdict.type), _condition(verdict, now)]
    event = (
        ("Completed", "Job completed", "Normal")
        if verdict.type == "Complete"
        else (verdict.reason, verdict.message, "Warning")
    )
    actions = (*_delete(census.active), *patch_status(JOBS, job.metadata, job.status, status), Announce(*event))
    return Plan(actions, _seconds_to_live(job, now, now))


def _after_the_end(observed: Observed, finished: dict[str, Any]) -> Plan:
    """Stop what still runs, and delete the Job itself when its time is over."""
    job = observed.job
    actions: list[Action] = _delete([pod for pod in observed.pods if is_active(pod)])
    left = _seconds_to_live(job, parse_timestamp(finished["lastTransitionTime"]), observed.now)
    if left is not None and left <= 0:
        actions.append(delete(JOBS, job.metadata))
        left = None
    return Plan(tuple(actions), left)


def _seconds_to_live(job: Generic, end: datetime, now: datetime) -> float | None:
    ttl = job.spec.get("ttlSecondsAfterFinished")
    return None if ttl is None else (end + timedelta(seconds=int(ttl)) - now).total_seconds()


def _suspend(observed: Observed, census: Census) -> Plan:
    job = observed.job
    status = _counts(observed, census, active=0)
    before = condition_of(job.status, "Suspended")
    announced: tuple[Action, ...] = ()
    status["startTime"] = None
    if not before or before.get("status") != "True":
        suspended = Verdict("Suspended", "JobSuspended", "Job suspended")
        status["conditions"] = [*_other_conditions(job, "Suspended"), _condition(suspended, observed.now)]
        announced = (Announce("Suspended", "Job suspended"),)
    return Plan((*_delete(census.active), *patch_status(JOBS, job.metadata, job.status, status), *announced))


def _run(observed: Observed, census: Census) -> tuple[list[Action], float | None]:
    """Create or delete pods until as many run as should; pods after a failure wait for the back-off."""
    spec = observed.job.spec
    if is_indexed(observed.job) and (unwanted := duplicates(census.active)):
        return _delete(unwanted), None
    wanted = _wanted_active(observed, census)
    surplus = len(census.active) - wanted
    if surplus > 0:
        return _delete(sorted(census.active, key=rank_for_deletion)[:surplus]), None
    if spec.get("podReplacementPolicy") == "Failed":
        surplus += census.terminating
    if surplus >= 0:
        return [], None
    wait = backoff_left(census, observed.now)
    if wait > 0:
        return [], wait
    bodies = _bodies(observed, census, -surplus)
    return [Create(PODS, observed.job.metadata.namespace, body) for body in bodies], None


def _bodies(observed: Observed, census: Census, count: int) -> list[dict[str, Any]]:
    job = observed.job
    body = _pod_body(job)
    if not is_indexed(job):
        return [body] * count
    done = completed_indexes(job, census.succeeded)
    return [indexed_body(body, job.metadata.name, index) for index in next_indexes(job, census.active, done, count)]


def _wanted_active(observed: Observed, census: Census) -> int:
    spec = observed.job.spec
    parallelism = int(spec.get("parallelism", 1))
    succeeded = _succeeded(observed, census)
    completions = spec.get("completions")
    if completions is None:
        return len(census.active) if succeeded else parallelism
    return min(parallelism, int(completions) - succeeded)


def _pod_body(job: Generic) -> dict[str, Any]:
    """A pod with the labels that select it, whether or not the server put them into the template."""
    body = pod_body(JOBS, job, job.spec.get("template", {}))
    selected = job.spec.get("selector", {}).get("matchLabels", {})
    marks = {"batch.kubernetes.io/controller-uid": job.metadata.uid, "batch.kubernetes.io/job-name": job.metadata.name}
    body["metadata"]["labels"] = {**marks, **selected, **body["metadata"]["labels"]}
    return body


def backoff_left(census: Census, now: datetime) -> float:
    """Seconds until the next pod: 10, 20, 40 ... after the first, second, third failure since the last success."""
    since_success = max((finish_time(pod) for pod in census.succeeded), default=None)
    failures = [at for at in map(finish_time, census.failed) if since_success is None or at > since_success]
    if not failures:
        return 0.0
    wait = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(len(failures) - 1, 10))
    return (max(failures) + timedelta(seconds=wait) - now).total_seconds()


def finish_time(pod: Generic) -> datetime:
    """When the last container ended; for a pod that says nothing of it, when it was deleted or made."""
    states = (status.get("state", {}).get("terminated") or {} for status in pod.status.get("containerStatuses") or ())
    ends = [state["finishedAt"] for state in states if state.get("finishedAt")]
    return parse_timestamp(max(ends, default=None) or pod.metadata.deletionTimestamp or _birth(pod))


def _birth(pod: Generic) -> str:
    return pod.metadata.creationTimestamp or "1970-01-01T00:00:00Z"


def _deadline(observed: Observed) -> float | None:
    """Seconds until `activeDeadlineSeconds` is over."""
    limit, started = observed.job.spec.get("activeDeadlineSeconds"), observed.job.status.get("startTime")
    if limit is None or observed.job.spec.get("suspend"):
        return None
    start = parse_timestamp(started) if started else observed.now
    return (start + timedelta(seconds=int(limit)) - observed.now).total_seconds()


def _status(observed: Observed, census: Census, actions: Sequence[Action]) -> list[Action]:
    job = observed.job
    active = len(census.active) + sum(isinstance(action, Create) for action in actions)
    active -= sum(isinstance(action, Delete) for action in actions)
    status = _counts(observed, census, active)
    resumed: list[Action] = []
    if not job.status.get("startTime"):
        status["startTime"] = timestamp(observed.now)
    suspended = condition_of(job.status, "Suspended")
    if suspended and suspended.get("status") == "True":
        resumption = Verdict("Suspended", "JobResumed", "Job resumed")
        status["conditions"] = [
            *_other_conditions(job, "Suspended"),
            {**_condition(resumption, observed.now), "status": "False"},
        ]
        resumed = [Announce("Resumed", "Job resumed")]
    return [*patch_status(JOBS, job.metadata, job.status, status), *resumed]


def _counts(observed: Observed, census: Census, active: int) -> dict[str, Any]:
    """What is zero is left out, but `ready` and `terminating`, which Kubernetes always writes."""
    counts: dict[str, Any] = {
        "active": active or None,
        "ready": sum(is_ready(pod) for pod in census.active) if active else 0,
        "terminating": census.terminating,
        "succeeded": _succeeded(observed, census) or None,
        "failed": observed.tally.failed + len(census.failed) or None,
    }
    if is_indexed(observed.job):
        counts["completedIndexes"] = format_indexes(completed_indexes(observed.job, census.succeeded)) or None
    return counts


def _delete(pods: Sequence[Generic]) -> list[Action]:
    actions: list[Action] = [delete(PODS, pod.metadata) for pod in pods]
    return [*actions, *(Announce("SuccessfulDelete", f"Deleted pod: {pod.metadata.name}") for pod in pods)]


def _other_conditions(job: Generic, type_: str) -> list[dict[str, Any]]:
    return [c for c in job.status.get("conditions") or () if c.get("type") != type_]


def _condition(verdict: Verdict, now: datetime) -> dict[str, Any]:
    return {
        "type": verdict.type,
        "status": "True",
        "reason": verdict.reason,
        "message": verdict.message,
        "lastProbeTime": timestamp(now),
        "lastTransitionTime": timestamp(now),
    }
