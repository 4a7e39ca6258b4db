"""The controller against the embedded API server: what the user sees, and what it costs the server."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from kaito.kube.client import Client
from kaito.kube.lease import LeaderElector
from kaito.kube.resources import CRDS, LEASES, untyped
from kaito.local.backend import BackendError
from kaito.workspace.operator import Operator, OperatorConfig
from tests.workspace.builders import INFERENCE, TUNING, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import (
    CLAIMS,
    DEPLOYMENTS,
    DIGEST,
    EVENTS,
    JOBS,
    PODS,
    POOLS,
    SECRETS,
    SERVICES,
    WORKSPACES,
    completed,
    ended,
    pod_status,
    running,
    trained,
    until,
    waiting,
)

STATEFUL_SETS = untyped("apps", "v1", "statefulsets", "StatefulSet", True)
WRITES = ("apply", "create", "patch", "delete")


def writes(client: Client) -> int:
    return sum(client.calls[verb] for verb in WRITES)


async def test_inference_becomes_ready_with_few_writes(stage: Stage) -> None:
    operator = stage.operate()
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    status = (await stage.workspace("served"))["status"]
    assert status["state"] == "Ready"
    events = await stage.side.list(EVENTS, "default")
    assert writes(operator.workspaces.client) - len(events) <= 10, operator.workspaces.client.calls


async def test_no_writes_at_rest_nor_after_a_restart(stage: Stage) -> None:
    first = stage.operate()
    stage.play(stage.side.run)
    await stage.push_secret()
    await stage.apply(TUNING)
    await stage.apply(INFERENCE)
    await stage.wait("tuned", "WorkspaceReady")
    await stage.wait("served", "WorkspaceReady")
    await settled(first)
    before = writes(first.workspaces.client)
    second = stage.operate()
    await until(lambda: is_idle(second))
    assert writes(first.workspaces.client) == before
    assert writes(second.workspaces.client) == 0, second.workspaces.client.calls


async def is_idle(operator: Operator) -> bool:
    """The caches are filled, every Workspace has been looked at, and no key waits."""
    queue = operator.workspaces.controller.queue
    return operator.is_ready() and queue.is_idle


async def settled(operator: Operator) -> None:
    """No write for as long as a coalesced status write may take."""
    while True:
        before = writes(operator.workspaces.client)
        await asyncio.sleep(1.2)
        if writes(operator.workspaces.client) == before:
            return


async def test_tuning_goes_all_the_way(stage: Stage) -> None:
    stage.operate()
    stage.side.backed_by = "the CPU of this machine"
    stage.play(stage.side.run)
    await stage.push_secret()
    await stage.apply(TUNING)
    await stage.wait("tuned", "WorkspaceReady")
    status = (await stage.workspace("tuned"))["status"]
    assert status["tuning"]["adapter"]["digest"] == DIGEST
    assert "backed by the CPU of this machine" in (await stage.condition("tuned", "NodesReady"))["message"]
    service = await stage.user.get(SERVICES, "tuned", "default")
    assert [(p["port"], p["targetPort"]) for p in service["spec"]["ports"]] == [(80, 5000), (29500, 29500)]


REFUSED = {
    "step": "publish",
    "state": "Waiting",
    "reason": "PushUnauthorized",
    "message": "registry.example.com refuses the credentials",
    "hint": "Mend the Secret push; the push goes on by itself.",
}


class Pods:
    """The node agent as the pod proxy sees it: every pod is at one loopback address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def address(self, namespace: str, pod: str) -> str:
        return self._address

    def logs(self, namespace: str, pod: str, options: object) -> AsyncIterator[bytes]:
        raise BackendError(404, "no logs here")

    async def exec(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> Any:
        raise BackendError(404, "no commands here")

    async def attach(self, namespace: str, pod: str, container: str, *, stdin: bool, tty: bool) -> Any:
        raise BackendError(404, "no streams here")


@pytest.mark.embedded
async def test_progress_and_a_refused_push_are_shown_and_nothing_is_trained_again(stage: Stage) -> None:
    """The steps answer on port 5000 of an address of their own, and the controller asks through the pod proxy."""
    address = f"127.{random.randrange(100, 127)}.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
    said: dict[str, Any] = {"step": "tune", "state": "Running", "trainStep": 7, "totalSteps": 84, "loss": 2.5}

    async def progress(_: web.Request) -> web.Response:
        return web.json_response(said)

    app = web.Application()
    app.add_routes([web.get("/progress", progress)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, 5000).start()
    stage.cluster.set_backend(Pods(address))
    stage.operate(progress_interval=0.1)
    await stage.push_secret()
    stage.side.jobs = False
    stage.play(stage.side.run)
    await stage.apply(TUNING)
    (job,) = await until(lambda: stage.side.list(JOBS, "default"))
    training = pod_status([ended("data"), ended("model"), running("tune")], [waiting("publish", "PodInitializing")])
    pod = await stage.side.make_pod(job, "Job", {**training, "podIP": address})
    await until(lambda: at_step(stage, 7))
    said |= REFUSED
    pushing = pod_status([ended(n) for n in ("data", "model", "tune")], [running("publish", ready=True)], ready=True)
    await stage.side.set_status(PODS, pod, {**pushing, "podIP": address, "phase": "Running"}, "default")
    found = await stage.wait("tuned", "TuningSucceeded", status="False", reason="PushUnauthorized")
    assert "refuses the credentials. Mend the Secret push" in found["message"]
    secret = {"data": {".dockerconfigjson": "eyJuZXciOiAxfQ=="}}
    await stage.user.patch(SECRETS, "push", secret, "default")
    await stage.side.set_status(PODS, pod, {**trained(), "podIP": address}, "default")
    await stage.side.set_status(JOBS, "tuned", completed(), "default")
    await stage.wait("tuned", "TuningSucceeded")
    assert (await stage.user.get(JOBS, "tuned", "default"))["metadata"]["uid"] == job["metadata"]["uid"]
    status = (await stage.workspace("tuned"))["status"]["tuning"]
    assert (status["step"], status["totalSteps"], status["adapter"]["digest"]) == (84, 84, DIGEST)
    await runner.cleanup()


async def at_step(stage: Stage, step: int) -> bool:
    status = (await stage.workspace("tuned")).get("status", {})
    return bool(status.get("tuning", {}).get("step") == step)


async def test_a_node_pool_brings_the_nodes(stage: Stage) -> None:
    """Karpenter makes the claims of a static pool, and the pool goes with the Workspace."""
    operator = stage.operate(nodes="karpenter", node_api="nodepool", node_class="example.com/v1/MachineClass/gpu")
    stage.side.pools_too = True
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    (pool,) = await stage.side.list(POOLS)
    wanted = {"group": "example.com", "kind": "MachineClass", "name": "gpu"}
    assert pool["spec"]["template"]["spec"]["nodeClassRef"] == wanted
    (claim,) = await stage.side.list(CLAIMS)
    assert claim["metadata"]["labels"]["karpenter.sh/nodepool"] == pool["metadata"]["name"]
    await settled(operator)
    before = writes(operator.workspaces.client)
    second = stage.operate(nodes="karpenter", node_api="nodepool", node_class="example.com/v1/MachineClass/gpu")
    await until(lambda: is_idle(second))
    assert writes(operator.workspaces.client) == before
    assert writes(second.workspaces.client) == 0, second.workspaces.client.calls
    stage.side.pools_too = False
    await stage.user.delete(WORKSPACES, "served", "default")
    await until(lambda: is_gone(stage))
    assert not await stage.side.list(POOLS)


async def test_a_workspace_goes_away_with_its_claims(stage: Stage) -> None:
    stage.operate()
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    await stage.user.delete(WORKSPACES, "served", "default")
    await until(lambda: is_gone(stage))
    assert not await stage.side.list(CLAIMS)


async def test_a_workspace_goes_away_when_the_node_api_is_gone(stage: Stage) -> None:
    stage.operate()
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    stage.side.claims = False
    await stage.user.delete(CRDS, "nodeclaims.karpenter.sh")
    await stage.user.delete(WORKSPACES, "served", "default")
    await until(lambda: is_gone(stage))


async def test_servers_of_an_earlier_kaito_make_room(stage: Stage) -> None:
    """They carry no label: their Workspace owns them, and they hold its GPU."""
    await stage.apply(INFERENCE)
    uid = (await stage.workspace("served"))["metadata"]["uid"]
    owner = {"apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "name": "served", "uid": uid, "controller": True}
    labels = {"kaito.sh/workspace": "served"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "served", "image": "kaito-base:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    old = {"metadata": {"name": "served", "ownerReferences": [owner]}, "spec": spec}
    await stage.user.create(DEPLOYMENTS, old, "default")
    split = {**old, "spec": {**spec, "serviceName": "served-headless"}}
    await stage.user.create(STATEFUL_SETS, split, "default")
    theirs = {**old, "metadata": {"name": "theirs"}}
    await stage.user.create(DEPLOYMENTS, theirs, "default")
    stage.operate()
    stage.play(stage.side.run)
    await stage.wait("served", "WorkspaceReady")
    made = await stage.user.get(DEPLOYMENTS, "served", "default")
    assert made["spec"]["selector"]["matchLabels"] != labels
    assert await stage.user.find(STATEFUL_SETS, "served", "default") is None
    assert await stage.user.find(DEPLOYMENTS, "theirs", "default") is not None, "nobody's but the user's"


async def test_claims_of_an_earlier_life_are_found_and_told(stage: Stage) -> None:
    stage.operate()
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    (claim,) = await stage.side.list(CLAIMS)
    labels = {"kaito.sh/workspace": "gone", "kaito.sh/workspacenamespace": "default"}
    left = {**claim, "metadata": {"name": "ws000000000", "labels": labels}}
    operator = stage.operate()
    await stage.user.create(CLAIMS, {key: left[key] for key in ("metadata", "spec")})

    async def told() -> list[str]:
        events = await stage.side.list(EVENTS, "default")
        return [e["message"] for e in events if e["reason"] == "OrphanedNode"]

    (message,) = set(await until(told))
    assert "no Workspace default/gone" in message
    assert "kubectl delete nodeclaims ws000000000" in message

    async def counted() -> list[str]:
        return [found.metadata.name for _, found in operator.caches.orphans()]

    assert await until(counted) == ["ws000000000"]
    assert await stage.user.find(CLAIMS, "ws000000000") is not None, "what it is for, only a person may know"


async def is_gone(stage: Stage) -> bool:
    return await stage.user.find(WORKSPACES, "served", "default") is None


async def test_of_two_operators_one_acts_and_the_other_takes_over(stage: Stage) -> None:
    """The second does not write while the first leads, and goes on where it was when it is gone."""
    clients = [Client.connect(stage.cluster.kubeconfig, field_manager="kaito-workspace") for _ in range(2)]
    tasks = []
    for number, client in enumerate(clients):
        operator = Operator(client, OperatorConfig())
        elector = LeaderElector(client, namespace="default", name="kaito-workspace", identity=f"operator-{number}")
        tasks.append(stage.play(functools.partial(elector.lead, operator.run)))
        await until(lambda: is_held(stage))
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    assert clients[1].calls["apply"] == 0
    tasks[0].cancel()
    await stage.apply(changed(INFERENCE, {"metadata.name": "next"}))
    await stage.wait("next", "WorkspaceReady")
    assert clients[1].calls["apply"] > 0
    assert len(await stage.side.list(CLAIMS)) == 2
    stage.clients += clients


async def is_held(stage: Stage) -> bool:
    lease = await stage.user.find(LEASES, "kaito-workspace", "default")
    return lease is not None and bool(lease.spec.holderIdentity)
