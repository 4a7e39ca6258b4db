"""Evictions against disruption budgets, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cluster import Answer, Cluster

PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
SETS = "/apis/apps/v1/namespaces/default/replicasets"
LABELS = {"app": "served"}


def make_pod(cluster: Cluster, name: str, *, ready: bool = True, phase: str = "Running", owner: str = "") -> None:
    owners = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": owner, "controller": True}]
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": LABELS, "ownerReferences": owners if owner else []},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    assert cluster.request("POST", PODS, body).code == 201
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    merge = {"Content-Type": "application/merge-patch+json"}
    assert cluster.request("PATCH", f"{PODS}/{name}/status", {"status": status}, merge).code == 200


def make_set(cluster: Cluster, replicas: int) -> str:
    """A ReplicaSet that nobody acts on; its uid."""
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template}
    kind = {"apiVersion": "apps/v1", "kind": "ReplicaSet"}
    made = cluster.request("POST", SETS, {**kind, "metadata": {"name": "rs"}, "spec": spec})
    return str(made.json()["metadata"]["uid"])


def make_budget(cluster: Cluster, name: str = "keep", **spec: Any) -> None:
    kind = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget"}
    body = {**kind, "metadata": {"name": name}, "spec": {"selector": {"matchLabels": LABELS}, **spec}}
    assert cluster.request("POST", BUDGETS, body).code == 201


def evict(cluster: Cluster, name: str) -> Answer:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    return cluster.request("POST", f"{PODS}/{name}/eviction", body)


def test_a_budget_that_is_used_up_refuses_in_the_words_of_kubernetes(cluster: Cluster) -> None:
    make_pod(cluster, "a")
    make_budget(cluster, minAvailable=1)
    answer = evict(cluster, "a")
    assert answer.code == 429
    status = answer.json()
    assert status["reason"] == "TooManyRequests"
    assert status["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    message = "The disruption budget keep needs 1 healthy pods and has 1 currently"
    assert status["details"]["causes"] == [{"reason": "DisruptionBudget", "message": message}]
    assert cluster.request("GET", f"{PODS}/a").json()["metadata"].get("deletionTimestamp") is None


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        pytest.param({"minAvailable": 2}, 1, id="number"),
        pytest.param({"minAvailable": "50%"}, 1, id="percentage, rounded up"),
        pytest.param({"maxUnavailable": 1}, 1, id="max unavailable"),
        pytest.param({"maxUnavailable": "100%"}, 3, id="all"),
        pytest.param({"maxUnavailable": 0}, 0, id="none"),
    ],
)
def test_as_many_go_as_the_budget_says(cluster: Cluster, spec: dict[str, Any], allowed: int) -> None:
    uid = make_set(cluster, 3)
    for name in ("a", "b", "c"):
        make_pod(cluster, name, owner=uid)
    make_budget(cluster, **spec)
    codes = [evict(cluster, name).code for name in ("a", "b", "c")]
    assert codes.count(201) == allowed and set(codes) <= {201, 429}


def test_pods_that_are_missing_from_a_controllers_scale_count_as_unavailable(cluster: Cluster) -> None:
    uid = make_set(cluster, 3)
    for name in ("a", "b"):
        make_pod(cluster, name, owner=uid)
    make_budget(cluster, maxUnavailable=1)
    assert evict(cluster, "a").code == 429


def test_what_no_budget_protects_may_go(cluster: Cluster) -> None:
    make_pod(cluster, "done", phase="Succeeded", ready=False)
    make_pod(cluster, "waiting", phase="Pending", ready=False)
    make_budget(cluster, minAvailable=5)
    assert [evict(cluster, name).code for name in ("done", "waiting")] == [201, 201]


def test_a_sick_pod_goes_only_where_the_budget_is_kept_or_says_so(cluster: Cluster) -> None:
    make_pod(cluster, "sick", ready=False)
    make_budget(cluster, minAvailable=1)
    assert evict(cluster, "sick").code == 429
    patch = {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}
    merge = {"Content-Type": "application/merge-patch+json"}
    assert cluster.request("PATCH", f"{BUDGETS}/keep", patch, merge).code == 200
    assert evict(cluster, "sick").code == 201


def test_two_budgets_for_one_pod_are_not_supported(cluster: Cluster) -> None:
    make_pod(cluster, "a")
    make_budget(cluster, "one", minAvailable=0)
    make_budget(cluster, "two", minAvailable=0)
    answer = evict(cluster, "a")
    assert answer.code == 500 and "more than one PodDisruptionBudget" in answer.json()["message"]
