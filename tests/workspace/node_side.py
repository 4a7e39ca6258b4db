"""The other side of the controller for tests on an API server: it makes nodes of claims and pods of workloads.

It plays provisioner, workload controllers and kubelet, one scripted transition at a time, all through the API: what a
test wants to go wrong it writes as the status of a claim, a node or a pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, ApiError, NotFound
from kaito.kube.resources import Resource, untyped

CLAIMS = untyped("karpenter.sh", "v1", "nodeclaims", "NodeClaim", False)
POOLS = untyped("karpenter.sh", "v1", "nodepools", "NodePool", False)
NODES = untyped("", "v1", "nodes", "Node", False)
PODS = untyped("", "v1", "pods", "Pod", True)
JOBS = untyped("batch", "v1", "jobs", "Job", True)
DEPLOYMENTS = untyped("apps", "v1", "deployments", "Deployment", True)
WORKSPACES = untyped("kaito.sh", "v1beta1", "workspaces", "Workspace", True)
SERVICES = untyped("", "v1", "services", "Service", True)
SECRETS = untyped("", "v1", "secrets", "Secret", True)
CONFIG_MAPS = untyped("", "v1", "configmaps", "ConfigMap", True)
EVENTS = untyped("", "v1", "events", "Event", True)
SINCE = "2026-07-01T12:00:00Z"
DIGEST = "sha256:" + "a" * 64
PUSHED = '{"image": "registry.example.com/team/adapter:0.0.1", "digest": "' + DIGEST + '", "evalLoss": 0.5}'


def true(kind: str, reason: str = "") -> dict[str, str]:
    return {"type": kind, "status": "True", "lastTransitionTime": SINCE, "reason": reason or kind, "message": ""}


def false(kind: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": "False", "lastTransitionTime": SINCE, "reason": reason, "message": message}


READY_CLAIM = [true("Launched"), true("Registered"), true("Initialized"), true("Ready")]


@dataclass
class NodeSide:
    """`claims`, `jobs` and `servers` switch on what happens by itself in `run`."""

    client: Client
    namespace: str = "default"
    gpus: int = 1
    backed_by: str = ""
    claims: bool = True
    pools_too: bool = False
    jobs: bool = True
    servers: bool = True
    resource: Resource[dict[str, Any]] = field(default=CLAIMS)
    pods: Resource[dict[str, Any]] = field(default=PODS)

    async def run(self) -> None:
        """Go on until cancelled, looking at the cluster again and again as no informer is under test here."""
        while True:
            await self.turn()
            await asyncio.sleep(0.02)

    async def turn(self) -> None:
        try:
            if self.pools_too:
                await self.serve_pools()
            if self.claims:
                await self._serve_claims()
            if self.jobs:
                await self._serve_jobs()
            if self.servers:
                await self._serve_deployments()
        except (NotFound, AlreadyExists):
            return  # the controller was faster; the next turn sees it
        except ApiError as error:
            if error.code != 409:
                raise

    async def list(self, resource: Resource[dict[str, Any]], namespace: str = "") -> list[dict[str, Any]]:
        return [item for item, _ in (await self.client.list(resource, namespace)).items]

    async def set_status(
        self, resource: Resource[dict[str, Any]], name: str, status: dict[str, Any], namespace: str = ""
    ) -> None:
        await self.client.patch(resource, name, {"status": status}, namespace, subresource="status")

    async def make_node(
        self, name: str, labels: dict[str, str], *, ready: bool = True, gpus: int | None = None
    ) -> None:
        annotations = {"kaito.sh/backed-by": self.backed_by} if self.backed_by else {}
        metadata = {"name": name, "labels": labels, "annotations": annotations}
        await self.client.create(NODES, {"metadata": metadata, "spec": {"providerID": f"fake://{name}"}})
        await self.set_node(name, ready=ready, gpus=self.gpus if gpus is None else gpus)

    async def set_node(self, name: str, *, ready: bool, gpus: int) -> None:
        condition = true("Ready") if ready else false("Ready", "KubeletNotReady", "the network plugin is not ready")
        amounts = {"nvidia.com/gpu": str(gpus), "cpu": "8"}
        await self.set_status(NODES, name, {"conditions": [condition], "allocatable": amounts, "capacity": amounts})

    async def make_pod(self, owner: dict[str, Any], kind: str, status: dict[str, Any]) -> str:
        template = owner["spec"]["template"]
        name = f"{owner['metadata']['name']}-{kind.lower()}-{owner['metadata']['generation']}"
        metadata = {
            **template["metadata"],
            "name": name,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": kind,
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        try:
            await self.client.create(PODS, {"metadata": metadata, "spec": template["spec"]}, self.namespace)
        except AlreadyExists:
            return name
        await self.set_status(PODS, name, status, self.namespace)
        return name

    async def serve_pools(self) -> None:
        """As Karpenter does for pools of a fixed number of nodes."""
        for pool in await self.list(POOLS):
            name, labels = pool["metadata"]["name"], pool["spec"]["template"]["metadata"]["labels"]
            metadata = {"labels": {**labels, "karpenter.sh/nodepool": name}}
            spec = {"nodeClassRef": pool["spec"]["template"]["spec"]["nodeClassRef"], "requirements": []}
            for number in range(pool["spec"]["replicas"]):
                await self.client.create_if_absent(
                    CLAIMS, {"metadata": {"name": f"{name}-{number}", **metadata}, "spec": spec}
                )

    async def _serve_claims(self) -> None:
        for claim in await self.list(self.resource):
            if claim.get("status", {}).get("conditions"):
                continue
            name = f"node-{claim['metadata']['name']}"
            await self.make_node(name, claim["metadata"]["labels"])
            await self.set_status(
                self.resource, claim["metadata"]["name"], {"nodeName": name, "conditions": READY_CLAIM}
            )

    async def _serve_jobs(self) -> None:
        for job in await self.list(JOBS, self.namespace):
            if job.get("status", {}).get("succeeded") or job["spec"].get("suspend"):
                continue
            await self.make_pod(job, "Job", trained())
            await self.set_status(JOBS, job["metadata"]["name"], completed(), self.namespace)

    async def _serve_deployments(self) -> None:
        for deployment in await self.list(DEPLOYMENTS, self.namespace):
            generation = deployment["metadata"]["generation"]
            if deployment.get("status", {}).get("observedGeneration") == generation:
                continue
            for pod in await self.list(PODS, self.namespace):
                if pod["metadata"]["labels"].items() >= deployment["spec"]["selector"]["matchLabels"].items():
                    await self.client.delete(PODS, pod["metadata"]["name"], self.namespace, grace_period=0)
            await self.make_pod(deployment, "Deployment", serving())
            rolled_out = {
                "observedGeneration": generation,
                "replicas": 1,
                "updatedReplicas": 1,
                "readyReplicas": 1,
                "availableReplicas": 1,
            }
            await self.set_status(DEPLOYMENTS, deployment["metadata"]["name"], rolled_out, self.namespace)


def ended(name: str, code: int = 0, message: str = "") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "message": message, "reason": "Completed" if code == 0 else "Error"}}
    return _container(name, state)


def running(name: str, *, ready: bool = False) -> dict[str, Any]:
    return {**_container(name, {"running": {"startedAt": SINCE}}), "ready": ready}


def waiting(name: str, reason: str, message: str = "", last: dict[str, Any] | None = None) -> dict[str, Any]:
    container = _container(name, {"waiting": {"reason": reason, "message": message}})
    return {**container, "lastState": {"terminated": last}, "restartCount": 1} if last else container


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "ready": False,
        "restartCount": 0,
        "image": "kaito/runtime:test",
        "imageID": "",
    }


def pod_status(
    init: list[dict[str, Any]], main: list[dict[str, Any]], *, phase: str = "Pending", ready: bool = False
) -> dict[str, Any]:
    conditions = [true("PodScheduled")] + ([true("Ready")] if ready else [])
    return {
        "phase": phase,
        "conditions": conditions,
        "initContainerStatuses": init,
        "containerStatuses": main,
    }


def completed() -> dict[str, Any]:
    """The status of a Job that went well, as a kube-apiserver takes it."""
    conditions = [true("SuccessCriteriaMet", "CompletionsReached"), true("Complete", "CompletionsReached")]
    return {"succeeded": 1, "conditions": conditions, "startTime": SINCE, "completionTime": SINCE}


def trained() -> dict[str, Any]:
    init = [ended("data"), ended("model"), ended("tune")]
    return pod_status(init, [ended("publish", message=PUSHED)], phase="Succeeded")


def serving() -> dict[str, Any]:
    return pod_status([ended("model")], [running("serve", ready=True)], phase="Running", ready=True)


async def until(check: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the awaitable `check` gives once it is true; the assertion says what it gave last."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = await check()
        if found:
            return found
        assert loop.time() < deadline, f"not within {seconds} s: {check}"
        await asyncio.sleep(0.02)
