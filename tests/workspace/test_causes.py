"""Every trouble is named for what it is: injected into the cluster, found in the right condition, with what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from kaito.kube.admission import WEBHOOKS
from tests.workspace.builders import INFERENCE, TUNING, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import (
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    NODES,
    PODS,
    READY_CLAIM,
    SECRETS,
    SINCE,
    ended,
    false,
    pod_status,
    running,
    true,
    until,
    waiting,
)

SECONDS = 5.0
Inject = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """`inject` makes the trouble; `condition` must become False for `reason`, in a message with all of `words`."""

    workspace: dict[str, Any]
    inject: Inject
    condition: str
    reason: str
    words: tuple[str, ...]
    ahead: timedelta = timedelta()
    secret: bool = True


def claim_fails(reason: str, message: str) -> Inject:
    async def inject(stage: Stage) -> None:
        (claim,) = await until(lambda: stage.side.list(CLAIMS))
        await stage.side.set_status(
            CLAIMS, claim["metadata"]["name"], {"conditions": [false("Launched", reason, message)]}
        )

    return inject


def node_is(*, ready: bool = True, gpus: int = 1, **more: Any) -> Inject:
    """The claim becomes ready, with a node in that state."""

    async def inject(stage: Stage) -> None:
        (claim,) = await until(lambda: stage.side.list(CLAIMS))
        name = claim["metadata"]["name"]
        await stage.side.make_node("n1", claim["metadata"]["labels"], ready=ready, gpus=gpus)
        if more:
            await stage.user.patch(NODES, "n1", more)
        await stage.side.set_status(CLAIMS, name, {"nodeName": "n1", "conditions": READY_CLAIM})

    return inject


def node_pressed(kind: str, message: str) -> Inject:
    async def inject(stage: Stage) -> None:
        await node_is()(stage)
        pressed = {**true(kind), "message": message}
        await stage.side.set_status(NODES, "n1", {"conditions": [true("Ready"), pressed]})

    return inject


def server_pod(status: dict[str, Any]) -> Inject:
    async def inject(stage: Stage) -> None:
        await node_is()(stage)
        (deployment,) = await until(lambda: stage.side.list(DEPLOYMENTS, "default"))
        await stage.side.make_pod(deployment, "Deployment", status)

    return inject


def server_deployment(condition: dict[str, str]) -> Inject:
    async def inject(stage: Stage) -> None:
        await node_is()(stage)
        (deployment,) = await until(lambda: stage.side.list(DEPLOYMENTS, "default"))
        await stage.side.set_status(DEPLOYMENTS, deployment["metadata"]["name"], {"conditions": [condition]}, "default")

    return inject


def tuning_pod(status: dict[str, Any]) -> Inject:
    async def inject(stage: Stage) -> None:
        await node_is()(stage)
        (job,) = await until(lambda: stage.side.list(JOBS, "default"))
        await stage.side.make_pod(job, "Job", status)

    return inject


def config_map(name: str, key: str, text: str) -> Inject:
    async def inject(stage: Stage) -> None:
        await stage.user.create(CONFIG_MAPS, {"metadata": {"name": name}, "data": {key: text}}, "default")

    return inject


async def refused_training(stage: Stage) -> None:
    """The Job controller says only in an Event that the namespace lets it make no pod."""
    await node_is()(stage)
    (job,) = await until(lambda: stage.side.list(JOBS, "default"))
    about = {"kind": "Job", "name": "tuned", "namespace": "default", "uid": job["metadata"]["uid"]}
    event = {"metadata": {"name": "tuned.1"}, "involvedObject": about, "reason": "FailedCreate", "message": QUOTA}
    await stage.user.create(EVENTS, {**event, "type": "Warning", "source": {"component": "job-controller"}}, "default")


async def unmounted(stage: Stage) -> None:
    """A kubelet says only in an Event that it cannot mount a volume; in the pod's status nothing happens."""
    creating = pod_status([waiting("model", "PodInitializing")], [waiting("serve", "PodInitializing")])
    await server_pod(creating)(stage)
    (pod,) = await stage.side.list(PODS, "default")
    about = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": "default", "uid": pod["metadata"]["uid"]}
    message = 'MountVolume.SetUp failed for volume "adapter": secret "nfs" not found'
    event = {"metadata": {"name": "served.1"}, "involvedObject": about, "reason": "FailedMount", "message": message}
    source = {"component": "kubelet"}
    await stage.user.create(EVENTS, {**event, "type": "Warning", "source": source}, "default")


async def webhook_down(stage: Stage) -> None:
    """Somebody's admission webhook for Deployments, which does not answer and must."""
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
    webhook = {
        "name": "policy.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:1/validate"},
        "rules": [rule],
    }
    await stage.user.apply(WEBHOOKS, {"metadata": {"name": "policy.example.com"}, "webhooks": [webhook]})
    await node_is()(stage)


async def keyless_secret(stage: Stage) -> None:
    await stage.user.create(SECRETS, {"metadata": {"name": "push"}, "stringData": {"password": "p"}}, "default")
    await node_is()(stage)


async def nothing(stage: Stage) -> None:
    """The Workspace itself is the trouble."""


def words(reason: str, message: str, hint: str) -> str:
    return json.dumps({"reason": reason, "message": message, "hint": hint})


LOADING = [ended("model")]
UNSCHEDULABLE = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
OOM = {"exitCode": 137, "reason": "OOMKilled"}
GPU_OOM = {"exitCode": 1, "reason": "Error", "message": words("GpuOutOfMemory", "CUDA out of memory", "Lower it.")}
CRASH = {"exitCode": 1, "reason": "Error", "message": "line one\nValueError: no such layer"}
NOT_FOUND = words("DataUnreachable", "https://example.com/data.parquet answered 404", "Mend tuning.input.urls.")
NO_COLUMN = words("DataUnusable", "train.parquet has no usable column", "Give messages.")
BAD_CONFIG = "training_config:\n  LoraConfig:\n    r: [\n"
QUOTA = 'pods "served-1" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'

DISRUPTED = {**true("DisruptionTarget", "PreemptionByScheduler"), "message": "the pod is preempted"}

CASES = {
    "quota": Case(
        INFERENCE,
        claim_fails("SubscriptionQuotaReached", "Family Cores quota: Current Limit: 0"),
        "NodeClaimReady",
        "SubscriptionQuotaReached",
        ("Current Limit: 0", "Raise the quota"),
    ),
    "instance type not available": Case(
        INFERENCE,
        claim_fails("SkuNotAvailable", "Standard_NC6s_v3 is not available in location eastus"),
        "ResourceReady",
        "SkuNotAvailable",
        ("eastus", "Choose an instance type"),
    ),
    "provisioner not running": Case(
        INFERENCE,
        nothing,
        "NodeClaimReady",
        "ProvisionerNotRunning",
        ("120 seconds", "kaito provisioner"),
        ahead=timedelta(seconds=200),
    ),
    "node never ready": Case(
        INFERENCE, node_is(ready=False), "NodesReady", "NodeNotReady", ("network plugin", "describe node n1")
    ),
    "GPU plugin missing": Case(
        INFERENCE, node_is(gpus=0), "NodesReady", "NodePluginsNotReady", ("offers 0 nvidia.com/gpu", "device plugin")
    ),
    "spot reclaim": Case(
        INFERENCE,
        node_is(spec={"taints": [{"key": "kubernetes.azure.com/spot-eviction", "effect": "NoSchedule"}]}),
        "NodesReady",
        "NodeDisrupted",
        ("n1 is being taken away", "Another node"),
    ),
    "disk pressure": Case(
        INFERENCE,
        node_pressed("DiskPressure", "95% used"),
        "NodesReady",
        "NodeDiskPressure",
        ("disk pressure", "95% used"),
    ),
    "image pull denied": Case(
        INFERENCE,
        server_pod(pod_status([waiting("model", "ImagePullBackOff", "401 Unauthorized")], [])),
        "InferenceReady",
        "ImagePullError",
        ("401 Unauthorized", "pull secret"),
    ),
    "image not found": Case(
        INFERENCE,
        server_pod(pod_status([waiting("model", "ErrImagePull", "manifest unknown")], [])),
        "InferenceReady",
        "ImagePullError",
        ("manifest unknown", "image's name"),
    ),
    "unschedulable": Case(
        INFERENCE,
        server_pod({"phase": "Pending", "conditions": [false("PodScheduled", "Unschedulable", UNSCHEDULABLE)]}),
        "InferenceReady",
        "Unschedulable",
        ("Insufficient nvidia.com/gpu", "node selector"),
    ),
    "out of memory": Case(
        INFERENCE,
        server_pod(pod_status(LOADING, [waiting("serve", "CrashLoopBackOff", "", OOM)])),
        "InferenceReady",
        "ContainerOOMKilled",
        ("serve ran out", "estimate:", "more memory"),
    ),
    "GPU out of memory": Case(
        INFERENCE,
        server_pod(pod_status(LOADING, [waiting("serve", "CrashLoopBackOff", "", GPU_OOM)])),
        "InferenceReady",
        "GpuOutOfMemory",
        ("CUDA out of memory", "estimate:", "Lower it"),
    ),
    "crash loop": Case(
        INFERENCE,
        server_pod(pod_status(LOADING, [waiting("serve", "CrashLoopBackOff", "", CRASH)])),
        "WorkspaceReady",
        "ContainerCrashLoopBackOff",
        ("ValueError: no such layer", "1 restart"),
    ),
    "never answers": Case(
        INFERENCE,
        server_pod(pod_status(LOADING, [{**running("serve"), "started": True}], phase="Running")),
        "InferenceReady",
        "ServerNotAnswering",
        ("health check", "kubectl logs"),
    ),
    "evicted": Case(
        INFERENCE,
        server_pod({"phase": "Failed", "reason": "Evicted", "message": "the node was low on ephemeral-storage"}),
        "InferenceReady",
        "PodEvicted",
        ("ephemeral-storage", "larger node"),
    ),
    "quota of the namespace": Case(
        INFERENCE,
        server_deployment({**true("ReplicaFailure", "FailedCreate"), "message": QUOTA}),
        "InferenceReady",
        "PodsNotCreated",
        ("exceeded quota", "namespace's quota"),
    ),
    "quota of the namespace, training": Case(
        TUNING, refused_training, "TuningSucceeded", "PodsNotCreated", ("exceeded quota", "namespace's quota")
    ),
    "a volume that cannot be mounted": Case(
        INFERENCE, unmounted, "InferenceReady", "FailedMount", ('secret "nfs" not found', "can be mounted")
    ),
    "a webhook is down": Case(
        INFERENCE, webhook_down, "WorkspaceReady", "WebhookUnreachable", ("policy.example.com", "Mend that webhook")
    ),
    "taken off its node": Case(
        INFERENCE,
        server_pod({"phase": "Running", "conditions": [true("PodScheduled"), DISRUPTED]}),
        "InferenceReady",
        "PodDisrupted",
        ("preempt", "Another node"),
    ),
    "secret without the key": Case(
        TUNING,
        keyless_secret,
        "WorkspaceReady",
        "SecretInvalid",
        ("push", "no key .dockerconfigjson", "kubernetes.io/dockerconfigjson"),
        secret=False,
    ),
    "data not reachable": Case(
        TUNING,
        tuning_pod(pod_status([ended("data", 2, NOT_FOUND)], [])),
        "TuningSucceeded",
        "DataUnreachable",
        ("answered 404", "Mend tuning.input.urls"),
    ),
    "data not usable": Case(
        TUNING,
        tuning_pod(pod_status([ended("data", 2, NO_COLUMN)], [])),
        "WorkspaceReady",
        "DataUnusable",
        ("no usable column", "Give messages"),
    ),
    "secret missing": Case(
        TUNING, node_is(), "WorkspaceReady", "SecretMissing", ("push", ".dockerconfigjson", "Create it"), secret=False
    ),
    "config missing": Case(
        changed(TUNING, {"tuning.config": "mine"}),
        nothing,
        "WorkspaceReady",
        "ConfigMissing",
        ("mine", "training_config"),
    ),
    "config wrong": Case(
        changed(TUNING, {"tuning.config": "mine"}),
        config_map("mine", "training_config.yaml", BAD_CONFIG),
        "WorkspaceReady",
        "ConfigInvalid",
        ("mine", "line 4"),
    ),
    "unknown preset": Case(
        changed(TUNING, {"tuning.preset.name": "tiny-phi-33"}),
        nothing,
        "WorkspaceReady",
        "UnknownPreset",
        ("tiny-phi-33", "Did you mean tiny-phi-3"),
    ),
    "unknown instance type": Case(
        changed(INFERENCE, {"resource.instanceType": "Standard_NC6s_v33"}),
        nothing,
        "ResourceReady",
        "UnknownInstanceType",
        ("Standard_NC6s_v33", "Did you mean Standard_NC6s_v3"),
    ),
    "model too large": Case(
        changed(
            TUNING,
            {"tuning.preset": {"name": "llama-3.3-70b-instruct", "presetOptions": {"modelAccessSecret": "hf"}}},
        ),
        nothing,
        "ResourceReady",
        "InsufficientGPUMemory",
        ("more GPU memory",),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_cause_is_named(stage: Stage, case: Case) -> None:
    stage.operate(case.ahead)
    if case.secret:
        await stage.push_secret()
    await stage.apply(case.workspace)
    await case.inject(stage)
    name = case.workspace["metadata"]["name"]
    started = asyncio.get_running_loop().time()
    found = await stage.wait(name, case.condition, status="False", reason=case.reason)
    took = asyncio.get_running_loop().time() - started
    for word in case.words:
        assert word in found["message"], (word, found["message"])
    assert took < SECONDS
    root = await stage.condition(name, "WorkspaceReady")
    assert root["status"] == "False"
    assert root["reason"] == case.reason, "the root says another reason than the deepest"
    print(f"{case.reason:28} {found['message']}")


async def test_a_wrong_input_suspends_the_job_and_keeps_the_words(stage: Stage) -> None:
    stage.operate()
    await stage.push_secret()
    await stage.apply(TUNING)
    await tuning_pod(pod_status([ended("data", 2, NOT_FOUND)], []))(stage)

    async def suspended() -> Any:
        return (await stage.user.get(JOBS, "tuned", "default"))["spec"].get("suspend")

    await until(suspended)
    for pod in await stage.side.list(stage.side.pods, "default"):
        await stage.user.delete(stage.side.pods, pod["metadata"]["name"], "default", grace_period=0)
    await asyncio.sleep(0.3)
    found = await stage.wait("tuned", "TuningSucceeded", status="False", reason="DataUnreachable")
    assert "answered 404" in found["message"]
    assert (await stage.workspace("tuned"))["status"]["state"] == "Failed"


async def test_what_the_last_pod_said_outlives_the_job_that_gives_up(stage: Stage) -> None:
    """A Job at the end of its retries deletes its pod, and says of the reason nothing but that there were too many."""
    stage.operate()
    await stage.push_secret()
    await stage.apply(TUNING)
    crashed = waiting("tune", "CrashLoopBackOff", "", CRASH)
    await tuning_pod(pod_status([ended("data"), ended("model"), crashed], []))(stage)
    await stage.wait("tuned", "TuningSucceeded", status="False", reason="ContainerCrashLoopBackOff")
    too_many = {**true("FailureTarget", "BackoffLimitExceeded"), "message": "Job has reached the limit"}
    await stage.side.set_status(JOBS, "tuned", {"conditions": [too_many], "startTime": SINCE}, "default")
    for pod in await stage.side.list(PODS, "default"):
        await stage.user.delete(PODS, pod["metadata"]["name"], "default", grace_period=0)

    async def failed() -> bool:
        return bool((await stage.workspace("tuned"))["status"]["state"] == "Failed")

    await until(failed)
    await asyncio.sleep(0.3)
    found = await stage.condition("tuned", "TuningSucceeded")
    assert found["reason"] == "ContainerCrashLoopBackOff"
    assert "ValueError: no such layer" in found["message"]
    assert "kubectl delete job tuned" in found["message"]
