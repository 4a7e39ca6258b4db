from __future__ import annotations

from typing import Any

import pytest

from kaito.api.core import Generic
from kaito.local.workloads.replica_set import Observed, plan_replica_set
from tests.local.workloads.builders import NOW, TEMPLATE, at, creates, deleted, meta, pod, status_of


def replica_set(replicas: int = 3, *, status: dict[str, Any] | None = None, **spec: Any) -> Generic:
    return Generic(meta("rs", generation=2), {"replicas": replicas, "template": TEMPLATE, **spec}, status or {})


def test_missing_pods_are_made_from_the_template_and_controlled() -> None:
    plan = plan_replica_set(Observed(replica_set(3), [pod("a")], NOW))
    made = creates(plan)
    assert len(made) == 2
    assert made[0].body["metadata"]["generateName"] == "rs-"
    assert made[0].body["metadata"]["labels"] == {"app": "web"}
    assert made[0].body["metadata"]["ownerReferences"][0] == {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "rs",
        "uid": "uid-rs",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert made[0].body["spec"] == TEMPLATE["spec"]


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(pod("x", phase="Failed"), id="failed"),
        pytest.param(pod("x", phase="Succeeded"), id="succeeded"),
        pytest.param(pod("x", deletionTimestamp=at(-1)), id="terminating"),
    ],
)
def test_a_pod_that_is_over_is_replaced(gone: Generic) -> None:
    assert len(creates(plan_replica_set(Observed(replica_set(1), [gone], NOW)))) == 1


@pytest.mark.parametrize(
    ("pods", "first"),
    [
        pytest.param([pod("a", ready=True), pod("b", spec={"nodeName": ""})], "b", id="not bound before bound"),
        pytest.param([pod("a"), pod("b", phase="Pending")], "b", id="pending before running"),
        pytest.param([pod("a", ready=True), pod("b")], "b", id="not ready before ready"),
        pytest.param(
            [pod("a", ready=True, ready_at=-500), pod("b", ready=True, ready_at=-5)],
            "b",
            id="newly ready before long ready",
        ),
        pytest.param([pod("a"), pod("b", restarts=4)], "b", id="restarting before steady"),
        pytest.param(
            [pod("a"), pod("b", annotations={"controller.kubernetes.io/pod-deletion-cost": "-1"})],
            "b",
            id="cheap first",
        ),
        pytest.param([pod("a"), pod("b")], "b", id="young before old"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_what_loses_least_goes_first(pods: list[Generic], first: str, reverse: bool) -> None:
    observed = Observed(replica_set(1), pods[::-1] if reverse else pods, NOW)
    assert deleted(plan_replica_set(observed)) == [first]


def test_status_counts_and_then_is_quiet() -> None:
    pods = [pod("a", ready=True), pod("b"), pod("c", phase="Failed")]
    status = status_of(plan_replica_set(Observed(replica_set(2), pods, NOW)))
    assert status == {
        "observedGeneration": 2,
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
    }
    assert plan_replica_set(Observed(replica_set(2, status=status), pods, NOW)).actions == ()


def test_a_ready_pod_becomes_available_after_its_seconds() -> None:
    observed = Observed(replica_set(1, minReadySeconds=90), [pod("a", ready=True, ready_at=-60)], NOW)
    plan = plan_replica_set(observed)
    assert status_of(plan)["readyReplicas"] == 1
    assert "availableReplicas" not in status_of(plan)
    assert plan.requeue_after == 30


def test_a_replica_set_that_is_deleted_makes_nothing() -> None:
    going = Generic(meta("rs", deletionTimestamp=at(-1)), {"replicas": 3, "template": TEMPLATE}, {})
    assert creates(plan_replica_set(Observed(going, [], NOW))) == []
