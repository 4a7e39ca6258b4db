from __future__ import annotations

from typing import Any

import pytest

from kaito.api.core import Generic
from kaito.local.workloads.job import Observed, Tally, plan_job
from kaito.local.workloads.plan import Delete, Plan
from kaito.local.workloads.tally import TallyBook
from tests.local.workloads.builders import NOW, TEMPLATE, at, creates, deleted, meta, pod, status_of

ON_FAILURE = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "OnFailure"}}


def job(*, status: dict[str, Any] | None = None, template: dict[str, Any] = TEMPLATE, **spec: Any) -> Generic:
    body = {"parallelism": 1, "completions": 1, "backoffLimit": 2, "template": template, **spec}
    return Generic(meta("job"), body, status or {})


def plan(job: Generic, *pods: Generic, tally: Tally | None = None) -> Plan:
    return plan_job(Observed(job, pods, tally or Tally(), NOW))


def failed(name: str, seconds_ago: float, exit_code: int = 1) -> Generic:
    return pod(name, phase="Failed", exit_code=exit_code, finished_at=-seconds_ago)


def condition(planned: Plan, type_: str) -> dict[str, Any] | None:
    return next((c for c in status_of(planned).get("conditions", ()) if c["type"] == type_), None)


def test_the_first_pod() -> None:
    planned = plan(job(selector={"matchLabels": {"batch.kubernetes.io/controller-uid": "uid-job"}}))
    (made,) = creates(planned)
    assert made.body["metadata"]["labels"] == {
        "app": "web",
        "batch.kubernetes.io/controller-uid": "uid-job",
        "batch.kubernetes.io/job-name": "job",
    }
    assert status_of(planned) == {"active": 1, "ready": 0, "terminating": 0, "startTime": at(0)}


@pytest.mark.parametrize(
    ("spec", "pods", "expected"),
    [
        pytest.param({"parallelism": 3, "completions": 5}, [], 3, id="parallelism"),
        pytest.param({"parallelism": 3, "completions": 2}, [], 2, id="no more than completions"),
        pytest.param({"parallelism": 3, "completions": 5}, [pod("a", phase="Succeeded"), pod("b")], 2, id="the rest"),
        pytest.param({"parallelism": 2, "completions": None}, [pod("a")], 1, id="work queue"),
        pytest.param(
            {"parallelism": 2, "completions": None}, [pod("a", phase="Succeeded"), pod("b")], 0, id="queue empty"
        ),
        pytest.param({}, [pod("a", restarts=1)], 0, id="restarts in place"),
        pytest.param({}, [failed("a", 11)], 1, id="failed, back-off over"),
        pytest.param({}, [failed("a", 9)], 0, id="failed, back-off runs"),
        pytest.param({}, [failed("a", 60), failed("b", 19)], 0, id="second back-off is longer"),
        pytest.param({}, [failed("a", 60), failed("b", 21)], 1, id="second back-off over"),
        pytest.param({"parallelism": 0}, [], 0, id="none wanted"),
    ],
)
def test_how_many_pods_are_made(spec: dict[str, Any], pods: list[Generic], expected: int) -> None:
    assert len(creates(plan(job(**spec), *pods))) == expected


def test_the_back_off_wakes_the_job() -> None:
    assert plan(job(), failed("a", 4)).requeue_after == 6


def test_fewer_are_wanted_than_run() -> None:
    planned = plan(job(parallelism=1, completions=4), pod("a", ready=True), pod("b"))
    assert deleted(planned) == ["b"]
    assert status_of(planned)["active"] == 1


@pytest.mark.parametrize(
    ("spec", "pods", "tally", "reason"),
    [
        pytest.param({}, [failed("a", 50), failed("b", 40)], Tally(), None, id="at the limit"),
        pytest.param({}, [failed(n, 9) for n in "abc"], Tally(), "BackoffLimitExceeded", id="beyond the limit"),
        pytest.param({}, [failed("a", 9)], Tally(failed=2), "BackoffLimitExceeded", id="pods that are gone count"),
        pytest.param({"backoffLimit": 0}, [failed("a", 9)], Tally(), "BackoffLimitExceeded", id="no retries"),
        pytest.param({"template": ON_FAILURE}, [pod("a", restarts=1)], Tally(), None, id="restarts below the limit"),
        pytest.param(
            {"template": ON_FAILURE},
            [pod("a", restarts=2)],
            Tally(),
            "BackoffLimitExceeded",
            id="restarts at the limit",
        ),
        pytest.param(
            {"template": ON_FAILURE, "backoffLimit": 0}, [pod("a")], Tally(), None, id="no retries, no restart"
        ),
        pytest.param({}, [pod("a", restarts=9)], Tally(), None, id="restarts do not count under Never"),
        pytest.param(
            {"activeDeadlineSeconds": 30, "status": {"startTime": at(-31)}},
            [pod("a")],
            Tally(),
            "DeadlineExceeded",
            id="time",
        ),
        pytest.param(
            {"activeDeadlineSeconds": 30, "status": {"startTime": at(-29)}}, [pod("a")], Tally(), None, id="in time"
        ),
    ],
)
def test_failure(spec: dict[str, Any], pods: list[Generic], tally: Tally, reason: str | None) -> None:
    planned = plan(job(**spec), *pods, tally=tally)
    found = condition(planned, "Failed")
    assert (found and found["reason"]) == reason
    if reason:
        assert set(deleted(planned)) == {p.metadata.name for p in pods if p.status["phase"] == "Running"}
        assert not creates(planned)


def test_a_deleted_pod_failed_unless_the_controller_deleted_it() -> None:
    leaving = pod("a", deletionTimestamp=at(-1))
    assert status_of(plan(job(), leaving))["failed"] == 1
    planned = plan(job(), leaving, tally=Tally(excused=frozenset({"uid-a"})))
    assert "failed" not in status_of(planned)
    assert len(creates(planned)) == 1


def test_completion_and_then_quiet() -> None:
    running = {"startTime": at(-10), "active": 1}
    planned = plan(job(status=running), pod("a", phase="Succeeded"))
    status = status_of(planned)
    assert condition(planned, "Complete") == {
        "type": "Complete",
        "status": "True",
        "reason": "CompletionsReached",
        "message": "Reached expected number of succeeded pods",
        "lastProbeTime": at(0),
        "lastTransitionTime": at(0),
    }
    assert (status["succeeded"], status["completionTime"], status["active"]) == (1, at(0), None)
    assert plan(job(status={**running, **status}), pod("a", phase="Succeeded")).actions == ()


def test_surplus_pods_go_when_the_job_is_complete() -> None:
    assert deleted(plan(job(), pod("a", phase="Succeeded"), pod("b"))) == ["b"]


@pytest.mark.parametrize(("ended", "gone", "wait"), [(-59, False, 1), (-60, True, None)])
def test_ttl(ended: float, gone: bool, wait: float | None) -> None:
    over = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": at(ended)}]}
    planned = plan(job(status=over, ttlSecondsAfterFinished=60))
    assert deleted(planned) == (["job"] if gone else [])
    assert planned.requeue_after == wait


def test_suspend_deletes_the_pods_and_resume_starts_the_clock_anew() -> None:
    running = {"startTime": at(-10), "active": 1}
    suspended = plan(job(suspend=True, status=running), pod("a"))
    status = status_of(suspended)
    assert deleted(suspended) == ["a"]
    assert (status["startTime"], status["active"]) == (None, None)
    assert condition(suspended, "Suspended") is not None
    kept = {k: v for k, v in status.items() if v is not None}
    assert plan(job(suspend=True, status=kept)).actions == ()
    resumed = plan(job(status=kept))
    assert len(creates(resumed)) == 1
    assert status_of(resumed)["startTime"] == at(0)
    found = condition(resumed, "Suspended")
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "JobResumed")


def rule(action: str, operator: str, *values: int) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(values)}}


@pytest.mark.parametrize(
    ("rules", "exit_code", "outcome"),
    [
        pytest.param([rule("FailJob", "In", 2)], 2, "PodFailurePolicy", id="fails the job"),
        pytest.param([rule("FailJob", "In", 2)], 1, "counted", id="another code counts"),
        pytest.param([rule("FailJob", "NotIn", 1)], 2, "PodFailurePolicy", id="not in"),
        pytest.param([rule("Ignore", "In", 3), rule("FailJob", "In", 3)], 3, "ignored", id="the first rule decides"),
        pytest.param([rule("Count", "In", 3)], 3, "counted", id="count"),
    ],
)
def test_pod_failure_policy(rules: list[dict[str, Any]], exit_code: int, outcome: str) -> None:
    planned = plan(job(podFailurePolicy={"rules": rules}), failed("a", 60, exit_code))
    found = condition(planned, "Failed")
    if outcome == "PodFailurePolicy":
        assert found is not None
        assert found["reason"] == outcome
        assert (
            found["message"]
            == f"Container c with exit code {exit_code} for pod default/a matching FailJob rule at index 0"
        )
    else:
        assert found is None
        assert status_of(planned).get("failed") == (1 if outcome == "counted" else None)


def test_the_tally_remembers_pods_that_are_gone() -> None:
    book, owner = TallyBook(), job(status={"failed": 3, "succeeded": 1})
    here = [failed("a", 5)]
    assert book.tally(owner, here) == Tally(succeeded=1, failed=2)
    book.count_gone(owner, _owned(here[0], owner))
    assert book.tally(owner, []) == Tally(succeeded=1, failed=3)
    book.excuse("uid-job", frozenset({"uid-b"}))
    book.count_gone(owner, _owned(pod("b"), owner))
    assert book.tally(owner, []) == Tally(succeeded=1, failed=3)
    book.count_gone(owner, _owned(pod("c", phase="Succeeded"), owner))
    assert book.tally(owner, []).succeeded == 2


def _owned(member: Generic, owner: Generic) -> Generic:
    return Generic(meta(member.metadata.name, owner=owner), member.spec, member.status)


def test_a_job_that_is_deleted_does_nothing() -> None:
    going = Generic(meta("job", deletionTimestamp=at(-1)), job().spec, {})
    assert not [a for a in plan(going, pod("a")).actions if not isinstance(a, Delete)]
