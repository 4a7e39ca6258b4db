from __future__ import annotations

from typing import Any

import pytest

from kaito.api.core import Generic
from kaito.local.workloads.plan import Plan
from kaito.local.workloads.resources import CLAIMS, PODS, REVISIONS, ControllerRevision
from kaito.local.workloads.stateful_set import Observed, find_revisions, plan_stateful_set
from tests.local.workloads.builders import NOW, TEMPLATE, at, creates, deleted, meta, status_of
from tests.local.workloads.builders import pod as any_pod


def template(image: str) -> dict[str, Any]:
    return {**TEMPLATE, "spec": {"containers": [{"name": "c", "image": image}]}}


def stateful_set(image: str = "v1", replicas: int = 3, *, status: dict[str, Any] | None = None, **spec: Any) -> Generic:
    body = {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "web"}}, **spec}
    return Generic(meta("db"), {**body, "template": template(image)}, status or {})


def revision(image: str, number: int) -> ControllerRevision:
    name = find_revisions(stateful_set(image), []).update
    return ControllerRevision(meta(name), number, {"spec": {"template": template(image)}})


V1, V2 = revision("v1", 1), revision("v2", 2)


def pod(ordinal: int, *, of: ControllerRevision = V1, ready: bool = True, **more: Any) -> Generic:
    labels = {"app": "web", "controller-revision-hash": of.metadata.name}
    return any_pod(f"db-{ordinal}", ready=ready, labels=labels, **more)


def plan(
    owner: Generic, *pods: Generic, revisions: tuple[ControllerRevision, ...] = (V1, V2), claims: str = ""
) -> Plan:
    return plan_stateful_set(Observed(owner, pods, revisions, frozenset(claims.split()), NOW))


def made(planned: Plan) -> list[str]:
    return [action.body["metadata"]["name"] for action in creates(planned) if action.resource is PODS]


@pytest.mark.parametrize(
    ("policy", "pods", "expected"),
    [
        pytest.param("OrderedReady", [], ["db-0"], id="the first alone"),
        pytest.param("OrderedReady", [pod(0, ready=False)], [], id="waits for the first"),
        pytest.param("OrderedReady", [pod(0)], ["db-1"], id="then the second"),
        pytest.param("OrderedReady", [pod(0), pod(2)], ["db-1"], id="fills the gap"),
        pytest.param("OrderedReady", [pod(0, deletionTimestamp=at(-1))], [], id="waits for one that goes"),
        pytest.param("Parallel", [], ["db-0", "db-1", "db-2"], id="all at once"),
        pytest.param("Parallel", [pod(1, ready=False)], ["db-0", "db-2"], id="all that are missing"),
    ],
)
def test_pods_are_made_in_order(policy: str, pods: list[Generic], expected: list[str]) -> None:
    assert made(plan(stateful_set(podManagementPolicy=policy), *pods)) == expected


@pytest.mark.parametrize(("policy", "expected"), [("OrderedReady", ["db-3"]), ("Parallel", ["db-3", "db-2"])])
def test_pods_go_from_the_last(policy: str, expected: list[str]) -> None:
    owner = stateful_set(replicas=2, podManagementPolicy=policy)
    assert deleted(plan(owner, *(pod(n) for n in range(4)))) == expected


def test_one_that_goes_is_waited_for_before_the_next_goes() -> None:
    leaving = pod(3, deletionTimestamp=at(-1))
    assert deleted(plan(stateful_set(replicas=2), pod(0), pod(1), pod(2), leaving)) == []


def test_a_finished_pod_is_deleted_and_comes_back_under_its_name() -> None:
    assert deleted(plan(stateful_set(replicas=1), pod(0, phase="Failed", ready=False))) == ["db-0"]


@pytest.mark.parametrize(
    ("strategy", "pods", "expected"),
    [
        pytest.param({}, [pod(0), pod(1), pod(2)], ["db-2"], id="the last first"),
        pytest.param({}, [pod(0), pod(1), pod(2, of=V2)], ["db-1"], id="then the one before"),
        pytest.param(
            {"rollingUpdate": {"partition": 2}}, [pod(0), pod(1), pod(2, of=V2)], [], id="down to the partition"
        ),
        pytest.param(
            {"rollingUpdate": {"maxUnavailable": 2}}, [pod(0), pod(1), pod(2)], ["db-2", "db-1"], id="two at a time"
        ),
        pytest.param({"type": "OnDelete"}, [pod(0), pod(1), pod(2)], [], id="on delete"),
    ],
)
def test_update(strategy: dict[str, Any], pods: list[Generic], expected: list[str]) -> None:
    owner = stateful_set("v2", updateStrategy=strategy, status={"currentRevision": V1.metadata.name})
    assert deleted(plan(owner, *pods)) == expected


def test_an_update_waits_for_the_updated_pod() -> None:
    owner = stateful_set("v2", podManagementPolicy="Parallel", status={"currentRevision": V1.metadata.name})
    assert deleted(plan(owner, pod(0), pod(1), pod(2, of=V2, ready=False))) == []


def test_below_the_partition_a_lost_pod_comes_back_as_it_was() -> None:
    strategy = {"rollingUpdate": {"partition": 1}}
    owner = stateful_set("v2", 2, updateStrategy=strategy, status={"currentRevision": V1.metadata.name})
    (again,) = [a for a in creates(plan(owner, pod(1, of=V2))) if a.resource is PODS]
    assert again.body["spec"]["containers"][0]["image"] == "v1"
    assert again.body["metadata"]["labels"]["controller-revision-hash"] == V1.metadata.name


def test_a_pod_has_its_name_its_place_and_its_claims() -> None:
    templates = [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]
    planned = plan(stateful_set(volumeClaimTemplates=templates))
    claim = next(a for a in creates(planned) if a.resource is CLAIMS)
    assert claim.body["metadata"] == {"name": "data-db-0", "labels": {"app": "web"}}
    assert claim.if_absent
    body = next(a for a in creates(planned) if a.resource is PODS).body
    assert body["metadata"]["name"] == "db-0"
    assert body["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"
    assert body["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-0"
    assert (body["spec"]["hostname"], body["spec"]["subdomain"]) == ("db-0", "db")
    assert body["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}]
    again = plan(stateful_set(volumeClaimTemplates=templates), claims="data-db-0")
    assert not [a for a in creates(again) if a.resource is CLAIMS]


def test_a_new_template_is_written_down_and_old_ones_forgotten() -> None:
    planned = plan(stateful_set("v3", 0, revisionHistoryLimit=1))
    (kept,) = [a for a in creates(planned) if a.resource is REVISIONS]
    assert kept.body["revision"] == 3
    assert kept.body["data"]["spec"]["template"]["spec"]["containers"][0]["image"] == "v3"
    assert deleted(planned) == [V1.metadata.name]


def test_status_through_an_update_and_then_quiet() -> None:
    before = {"currentRevision": V1.metadata.name}
    half = status_of(plan(stateful_set("v2", 2, status=before), pod(0), pod(1, of=V2, ready=False)))
    assert (half["updatedReplicas"], half["currentReplicas"], half["readyReplicas"]) == (1, 1, 1)
    assert "currentRevision" not in half  # It stays what it was.
    owner = stateful_set("v2", 2, status={**before, **half})
    whole = status_of(plan(owner, pod(0, of=V2), pod(1, of=V2)))
    assert whole["currentRevision"] == V2.metadata.name
    quiet = stateful_set("v2", 2, status={**before, **half, **whole})
    assert plan(quiet, pod(0, of=V2), pod(1, of=V2)).actions == ()
