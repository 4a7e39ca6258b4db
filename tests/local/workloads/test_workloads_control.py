"""The controllers against the embedded API server: what a person would see, and how many calls it took."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaito.api.core import Generic
from kaito.kube.resources import CONFIG_MAPS
from kaito.local.workloads.objects import controller_uid
from kaito.local.workloads.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
)
from tests.local.kubelet import OUTCOME
from tests.local.waiting import wait_for, wait_for_one, wait_gone
from tests.local.workloads.conftest import ControlPlane

LABELS = {"app": "web"}


def template(image: str = "v1", outcome: str = "run", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 5000}]}]
    return {
        "metadata": {"labels": LABELS, "annotations": {OUTCOME: outcome}},
        "spec": {"containers": containers, **spec},
    }


def deployment(image: str = "v1", replicas: int = 2, outcome: str = "run", **spec: Any) -> dict[str, Any]:
    body = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template(image, outcome), **spec}
    return {"metadata": {"name": "web"}, "spec": body}


def job(outcome: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "job"}, "spec": {"template": template(outcome=outcome, restartPolicy="Never"), **spec}}


def images(pods: list[Generic]) -> set[str]:
    return {pod.spec["containers"][0]["image"] for pod in pods}


def is_rolled_out(obj: Generic) -> bool:
    """As `kubectl rollout status` sees it."""
    status, wanted = obj.status, obj.spec["replicas"]
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration") == obj.metadata.generation and counts == [wanted] * 3


def has_condition(type_: str, status: str = "True") -> Any:
    def holds(obj: Generic) -> bool:
        return any(c["type"] == type_ and c["status"] == status for c in obj.status.get("conditions", ()))

    return holds


async def test_a_deployment_rolls_out_and_back(plane: ControlPlane) -> None:
    client = plane.client
    await client.create(DEPLOYMENTS, deployment(), "default")
    done = await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    assert has_condition("Available")(done)
    await client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("v2")}}, "default")
    await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    await wait_for(client, PODS, lambda pods: len(pods) == 2 and images(pods) == {"v2"})
    sets = {rs.metadata.annotations["deployment.kubernetes.io/revision"]: rs for rs in await _all(plane, REPLICA_SETS)}
    assert {revision: rs.spec["replicas"] for revision, rs in sets.items()} == {"1": 0, "2": 2}
    await client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("v1")}}, "default")
    await wait_for(client, PODS, lambda pods: len(pods) == 2 and images(pods) == {"v1"})
    back = await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    assert back.metadata.annotations["deployment.kubernetes.io/revision"] == "3"
    assert len(await _all(plane, REPLICA_SETS)) == 2


async def test_a_deployment_scales_and_replaces_a_pod(plane: ControlPlane) -> None:
    client = plane.client
    await client.create(DEPLOYMENTS, deployment(replicas=1), "default")
    await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, "default", subresource="scale")
    pods = await wait_for(client, PODS, lambda pods: len(pods) == 3)
    await client.delete(PODS, pods[0].metadata.name, "default")
    gone = pods[0].metadata.name
    await wait_for(client, PODS, lambda pods: len(pods) == 3 and gone not in {p.metadata.name for p in pods})
    await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, "default")
    await wait_gone(client, PODS)


async def test_recreate_never_runs_old_and_new_together(plane: ControlPlane) -> None:
    client = plane.client
    seen: list[set[str]] = []
    plane.kubelet.informer.listen(lambda old, new: seen.append(images(plane.kubelet.informer.store.values())))
    await client.create(DEPLOYMENTS, deployment(strategy={"type": "Recreate"}), "default")
    await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    await client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("v2")}}, "default")
    await wait_for(client, PODS, lambda pods: len(pods) == 2 and images(pods) == {"v2"})
    assert {"v1", "v2"} not in seen


async def test_in_steady_state_nothing_is_written(plane: ControlPlane) -> None:
    await plane.client.create(DEPLOYMENTS, deployment(), "default")
    await plane.client.create(
        SERVICES, {"metadata": {"name": "web"}, "spec": {"selector": LABELS, "ports": [{"port": 80}]}}, "default"
    )
    await wait_for_one(plane.client, DEPLOYMENTS, "web", is_rolled_out)
    await wait_for(plane.client, ENDPOINTS, lambda all_: any(len(_ready(e)) == 2 for e in all_))
    await _settled(plane)
    before = plane.controllers.calls.copy()
    # A touched object wakes every controller that looks at it; none has anything to write. (A Deployment's annotations
    # are counted in its generation, which its status answers.)
    for resource, name in ((DEPLOYMENTS, "web"), (SERVICES, "web")):
        await plane.client.patch(resource, name, {"metadata": {"labels": {"touched": "yes"}}}, "default")
    for pod in await _all(plane, PODS):
        await plane.client.patch(PODS, pod.metadata.name, {"metadata": {"annotations": {"touched": "yes"}}}, "default")
    await _settled(plane)
    assert plane.controllers.calls - before == {}


async def test_an_orphan_joins_who_selects_it_and_a_pod_with_other_labels_leaves(plane: ControlPlane) -> None:
    client = plane.client
    made = await client.create(PODS, {**template(), "metadata": {"name": "mine", "labels": LABELS}}, "default")
    await client.create(DEPLOYMENTS, deployment(replicas=2), "default")
    await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    (replica_set,) = await _all(plane, REPLICA_SETS)
    # The hash is part of what the ReplicaSet selects, and a pod that is made by hand has none.
    labels = {**LABELS, "pod-template-hash": replica_set.metadata.labels["pod-template-hash"]}
    await client.patch(PODS, "mine", {"metadata": {"labels": labels}}, "default")

    def is_settled(pods: list[Generic]) -> bool:
        owned = [pod for pod in pods if controller_uid(pod.metadata) == replica_set.metadata.uid]
        return len(owned) == 2 == len(pods)

    await wait_for(client, PODS, is_settled)
    kept = (await _all(plane, PODS))[0].metadata.name
    await client.patch(PODS, kept, {"metadata": {"labels": {"app": "debug"}}}, "default")
    pods = await wait_for(client, PODS, lambda all_: len(all_) == 3)
    left = next(pod for pod in pods if pod.metadata.name == kept)
    assert controller_uid(left.metadata) == ""
    assert made.metadata.uid


async def test_pods_that_a_deleted_replica_set_left_are_taken_up_again(plane: ControlPlane) -> None:
    client = plane.client
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template()}
    await client.create(REPLICA_SETS, {"metadata": {"name": "one"}, "spec": spec}, "default")
    await wait_for_one(client, REPLICA_SETS, "one", lambda rs: rs.status.get("readyReplicas") == 2)
    before = {pod.metadata.name for pod in await _all(plane, PODS)}
    await client.delete(REPLICA_SETS, "one", "default", propagation="Orphan")
    await wait_gone(client, REPLICA_SETS, "one")
    await client.create(REPLICA_SETS, {"metadata": {"name": "two"}, "spec": spec}, "default")
    await wait_for_one(client, REPLICA_SETS, "two", lambda rs: rs.status.get("readyReplicas") == 2)
    assert {pod.metadata.name for pod in await _all(plane, PODS)} == before


async def test_a_stateful_set_comes_up_in_order_and_updates_from_the_last(plane: ControlPlane) -> None:
    client = plane.client
    claims = [
        {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    ]
    body = {"replicas": 2, "serviceName": "web", "selector": {"matchLabels": LABELS}, "template": template()}
    await client.create(
        STATEFUL_SETS, {"metadata": {"name": "db"}, "spec": {**body, "volumeClaimTemplates": claims}}, "default"
    )

    def is_up(obj: Generic) -> bool:
        return obj.status.get("readyReplicas") == 2 and obj.status["currentRevision"] == obj.status["updateRevision"]

    await wait_for_one(client, STATEFUL_SETS, "db", is_up)
    pods = {pod.metadata.name: pod for pod in await _all(plane, PODS)}
    assert set(pods) == {"db-0", "db-1"}
    assert pods["db-0"].metadata.creationTimestamp <= pods["db-1"].metadata.creationTimestamp  # type: ignore[operator]  # stored objects have one
    assert {
        v["persistentVolumeClaim"]["claimName"] for v in pods["db-1"].spec["volumes"] if "persistentVolumeClaim" in v
    } == {"data-db-1"}
    await client.patch(STATEFUL_SETS, "db", {"spec": {"template": template("v2")}}, "default")
    await wait_for(client, PODS, lambda pods: len(pods) == 2 and images(pods) == {"v2"})
    await wait_for_one(client, STATEFUL_SETS, "db", lambda s: is_up(s) and s.status.get("updatedReplicas") == 2)


async def test_a_job_completes(plane: ControlPlane) -> None:
    await plane.client.create(JOBS, job("succeed", completions=3, parallelism=2), "default")
    done = await wait_for_one(plane.client, JOBS, "job", has_condition("Complete"))
    assert done.status["succeeded"] == 3
    assert len(await _all(plane, PODS)) == 3


async def test_an_indexed_job_completes(plane: ControlPlane) -> None:
    await plane.client.create(JOBS, job("succeed", completionMode="Indexed", completions=4, parallelism=2), "default")
    done = await wait_for_one(plane.client, JOBS, "job", has_condition("Complete"))
    assert (done.status["succeeded"], done.status["completedIndexes"]) == (4, "0-3")
    pods = await _all(plane, PODS)
    assert sorted(pod.spec["hostname"] for pod in pods) == ["job-0", "job-1", "job-2", "job-3"]


async def test_a_job_fails(plane: ControlPlane) -> None:
    await plane.client.create(JOBS, job("1", backoffLimit=0), "default")
    failed = await wait_for_one(plane.client, JOBS, "job", has_condition("Failed"))
    assert failed.status["failed"] == 1
    assert failed.status["conditions"][0]["reason"] == "BackoffLimitExceeded"


async def test_a_job_is_suspended_and_resumed(plane: ControlPlane) -> None:
    client = plane.client
    await client.create(JOBS, job("run"), "default")
    await wait_for_one(client, JOBS, "job", lambda j: j.status.get("ready") == 1)
    await client.patch(JOBS, "job", {"spec": {"suspend": True}}, "default")
    suspended = await wait_for_one(client, JOBS, "job", has_condition("Suspended"))
    assert "failed" not in suspended.status
    await wait_gone(client, PODS)
    await client.patch(JOBS, "job", {"spec": {"suspend": False}}, "default")
    resumed = await wait_for_one(client, JOBS, "job", lambda j: j.status.get("ready") == 1)
    assert has_condition("Suspended", "False")(resumed)
    assert "failed" not in resumed.status


async def test_a_finished_job_goes_after_its_time(plane: ControlPlane) -> None:
    await plane.client.create(JOBS, job("succeed", ttlSecondsAfterFinished=0), "default")
    await wait_gone(plane.client, JOBS)
    await wait_gone(plane.client, PODS)


async def test_endpoints_follow_pods(plane: ControlPlane) -> None:
    client = plane.client
    await client.create(
        SERVICES,
        {"metadata": {"name": "web"}, "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": "http"}]}},
        "default",
    )
    await client.create(DEPLOYMENTS, deployment(replicas=1), "default")
    endpoints = await wait_for_one(client, ENDPOINTS, "web", lambda e: len(_ready(e)) == 1)
    assert endpoints.subsets[0]["ports"][0]["port"] == 5000
    await wait_for(client, ENDPOINT_SLICES, lambda all_: any(len(s.endpoints) == 1 for s in all_))
    await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, "default")
    await wait_for_one(client, ENDPOINTS, "web", lambda e: not e.subsets)
    await client.delete(SERVICES, "web", "default")
    await wait_for(client, ENDPOINTS, lambda all_: "web" not in {e.metadata.name for e in all_})
    await wait_for(client, ENDPOINT_SLICES, lambda all_: not any(s.endpoints or "web" in s.metadata.name for s in all_))


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_deleting_a_deployment_deletes_all_it_owns(plane: ControlPlane, propagation: str) -> None:
    client = plane.client
    await client.create(DEPLOYMENTS, deployment(), "default")
    await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    await client.delete(DEPLOYMENTS, "web", "default", propagation=propagation)
    for resource in (PODS, REPLICA_SETS, DEPLOYMENTS):
        await wait_gone(client, resource)


async def test_orphans_stay(plane: ControlPlane) -> None:
    client = plane.client
    await client.create(DEPLOYMENTS, deployment(), "default")
    await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out)
    await client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
    await wait_gone(client, DEPLOYMENTS)
    (left,) = await _all(plane, REPLICA_SETS)
    assert left.metadata.ownerReferences == []
    assert len(await _all(plane, PODS)) == 2


async def test_a_namespace_is_emptied_and_goes(plane: ControlPlane) -> None:
    client = plane.client
    await client.create(NAMESPACES, {"metadata": {"name": "team"}})
    await client.create(DEPLOYMENTS, deployment(), "team")
    await client.create(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"a": "b"}}, "team")
    await wait_for_one(client, DEPLOYMENTS, "web", is_rolled_out, "team")
    await client.delete(NAMESPACES, "team")
    await wait_for(client, NAMESPACES, lambda all_: "team" not in {n.metadata.name for n in all_})
    await wait_gone(client, PODS, "team")
    await wait_gone(client, CONFIG_MAPS, "team")


async def test_pods_of_a_lost_node_end(plane: ControlPlane) -> None:
    client = plane.client
    await client.create(DEPLOYMENTS, deployment(replicas=1), "default")
    (pod,) = await wait_for(client, PODS, lambda pods: len(pods) == 1 and pods[0].status.get("podIP"))
    await client.delete(NODES, plane.kubelet.node)
    await wait_for(client, PODS, lambda pods: pods and pod.metadata.name not in {p.metadata.name for p in pods})
    waiting = await wait_for(client, PODS, lambda pods: pods and has_condition("PodScheduled", "False")(pods[0]))
    assert waiting[0].status["conditions"][0]["message"] == "no nodes available to schedule pods"


async def _all(plane: ControlPlane, resource: Any) -> list[Any]:
    return [obj for obj, _ in (await plane.client.list(resource, "default")).items]


def _ready(endpoints: Any) -> list[dict[str, Any]]:
    return [address for subset in endpoints.subsets for address in subset.get("addresses", ())]


async def _settled(plane: ControlPlane) -> None:
    """Returns when the controllers have made no call for a while; events that are written late are among them."""
    calls = None
    while calls != plane.controllers.calls:
        calls = plane.controllers.calls.copy()
        await asyncio.sleep(0.3)
