"""Each rule is needed, and all together are enough: whole lives, lived with the accounts' tokens alone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kaito.install.kinds import resource_of
from kaito.kube.certificates import make_certificate
from kaito.kube.client import Client
from kaito.kube.lease import LeaderElector
from kaito.kube.resources import MACHINES, NODE_CLAIMS, SECRETS, Resource, untyped
from kaito.nodes.providers.base import Instance, InstanceState
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import parse_scenario
from kaito.nodes.provisioner import Provisioner, ProvisionerConfig
from kaito.workspace.admission import SECRET
from kaito.workspace.operator import OperatorConfig, run_operator
from tests.install.accounts import NAMESPACE, Audit, atoms, grant, kubeconfig_of, rendered, unused, without
from tests.nodes.world import World
from tests.workspace.builders import INFERENCE, TUNING, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import JOBS, PODS, WORKSPACES, ended, pod_status, until
from tests.workspace.node_side import running as running_step
from tests.workspace.test_convergence import LARGE

PATIENCE = 60.0
STATEFUL_SETS = untyped("apps", "v1", "statefulsets", "StatefulSet", True)
RAW_MACHINES = untyped("karpenter.sh", "v1alpha5", "machines", "Machine", False)
AZURE = ("provisioner.enabled=true", "provisioner.provider=simulated")
OPERATOR, PROVISIONER = "kaito-operator", "kaito-provisioner"


async def asked(audit: Audit, account: str, *right: str) -> None:
    """Wait until (group, resource, verb) was asked for, and allowed."""

    async def check() -> bool:
        return any((one.group, one.target, one.verb) == right for one in audit.asked.get(account, set()))

    try:
        await until(check, PATIENCE)
    except AssertionError:
        raise AssertionError(f"{account} never asked for {right}; denied: {audit.denied.get(account)}") from None


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def operating(stage: Stage, folder: Path, **config: Any) -> AsyncIterator[None]:
    """The operator with its account's token, as its Deployment starts it."""
    kubeconfig = await kubeconfig_of(stage.user, stage.cluster, OPERATOR, folder)
    flags = {"leader_election": True, "webhook_port": 0, "progress_interval": 0.05, "host": "127.0.0.1", **config}
    async with running(run_operator(OperatorConfig(kubeconfig=kubeconfig, lease_namespace=NAMESPACE, **flags))):
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def set_up(stage: Stage, *settings: str) -> list[dict[str, Any]]:
    objects = rendered(*settings)
    await grant(stage.user, objects)
    for body in objects:
        if body["kind"] in ("Service", "ValidatingWebhookConfiguration"):
            await stage.user.apply(resource_of(body), body, body["metadata"].get("namespace", ""))
    return objects


def kaitos_own_server() -> dict[str, Any]:
    """What an operator of KAITO left behind for the same Workspace."""
    pod = {
        "metadata": {"labels": {"kaito.sh/workspace": "served"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    selector = {"matchLabels": {"kaito.sh/workspace": "served"}}
    return {
        "metadata": {"name": "served", "labels": {"kaito.sh/workspace": "served"}},
        "spec": {"replicas": 1, "serviceName": "served", "selector": selector, "template": pod},
    }


async def live(stage: Stage, audit: Audit) -> None:
    """Serving on one node and on several, tuning, a wrong input, and a change of mind."""
    stage.play(stage.side.run)
    await stage.push_secret()
    await stage.user.create(SECRETS, {"metadata": {"name": "hf"}, "stringData": {"HF_TOKEN": "t"}}, "default")
    await stage.user.create(STATEFUL_SETS, kaitos_own_server(), "default")
    for workspace in (TUNING, INFERENCE, changed(LARGE, {"metadata.name": "large"})):
        await stage.apply(workspace)
    await stage.wait("tuned", "WorkspaceReady")
    await stage.wait("served", "WorkspaceReady")
    await asked(audit, OPERATOR, "apps", "statefulsets", "delete")
    await asked(audit, OPERATOR, "apps", "statefulsets", "create")
    merge = {"tuning": {"input": {"urls": ["https://example.com/other.parquet"]}}}
    await stage.user.patch(WORKSPACES, "tuned", merge, "default")
    await asked(audit, OPERATOR, "apps", "deployments", "delete")
    stage.side.jobs = False
    await stage.apply(changed(TUNING, {"metadata.name": "wrong", "tuning.output.image": "registry.example.com/a/b:1"}))

    async def job() -> Any:
        return await stage.user.find(JOBS, "wrong", "default")

    made = await until(job, PATIENCE)
    working = {**pod_status([running_step("data")], []), "podIP": "127.0.0.1"}
    name = await stage.side.make_pod(made, "Job", working)
    await asked(audit, OPERATOR, "", "pods/proxy", "get")
    words = '{"reason": "DataInvalid", "message": "no rows", "hint": "give some"}'
    await stage.side.set_status(PODS, name, pod_status([ended("data", 2, words)], []), "default")
    await asked(audit, OPERATOR, "batch", "jobs", "patch")
    await stage.user.patch(WORKSPACES, "wrong", merge, "default")
    await asked(audit, OPERATOR, "batch", "jobs", "delete")


async def age_certificate(stage: Stage) -> None:
    old = make_certificate(["kaito-operator.kaito-system.svc"], datetime.now(UTC) - timedelta(days=360))
    parts = {"ca.crt": old.authority, "tls.crt": old.certificate, "tls.key": old.key}
    data = {name: base64.b64encode(content).decode() for name, content in parts.items()}
    await stage.user.patch(SECRETS, SECRET, {"data": data}, NAMESPACE)


async def test_the_operators_rights_are_enough_and_each_is_needed(stage: Stage, audit: Audit, tmp_path: Path) -> None:
    objects = await set_up(stage)
    async with operating(stage, tmp_path, webhook_port=free_port()):
        await live(stage, audit)
    await age_certificate(stage)
    async with operating(stage, tmp_path, webhook_port=free_port()):
        await asked(audit, OPERATOR, "", "secrets", "patch")
        (pod,) = [p for p in await stage.side.list(PODS, "default") if p["metadata"]["name"].startswith("served-")]
        sick = {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": None}]}
        await stage.user.patch(PODS, pod["metadata"]["name"], {"status": sick}, "default", subresource="status")
        await stage.wait("served", "InferenceReady", status="False")
        await stage.user.patch(
            PODS, pod["metadata"]["name"], {"status": pod["status"]}, "default", subresource="status"
        )
        await asked(audit, OPERATOR, "", "events", "patch")
        for name in ("served", "tuned", "large", "wrong"):
            await stage.user.delete(WORKSPACES, name, "default")
        await asked(audit, OPERATOR, "karpenter.sh", "nodeclaims", "delete")

        async def none_left() -> bool:
            return not await stage.side.list(WORKSPACES)

        await until(none_left, PATIENCE)
    stage.side.resource = RAW_MACHINES
    async with operating(stage, tmp_path, node_api="machine"):
        await stage.apply(changed(INFERENCE, {"metadata.name": "old", "resource.labelSelector.matchLabels.app": "old"}))
        await asked(audit, OPERATOR, "karpenter.sh", "machines", "create")
        await stage.wait("old", "NodesReady")
        await stage.user.delete(WORKSPACES, "old", "default")
        await asked(audit, OPERATOR, "karpenter.sh", "machines", "delete")
    assert not audit.denied.get(OPERATOR), audit.denied
    assert unused(atoms(objects, OPERATOR), audit.asked[OPERATOR]) == set()


async def test_the_rights_for_pools_of_karpenter_are_enough(stage: Stage, audit: Audit, tmp_path: Path) -> None:
    await set_up(stage, "nodes=karpenter", "nodeApi=nodepool", "cloud=aws")
    stage.side.pools_too = True
    stage.play(stage.side.run)
    async with operating(stage, tmp_path, nodes="karpenter", node_api="nodepool", cloud="aws"):
        await stage.apply(INFERENCE)
        await stage.wait("served", "WorkspaceReady")
        stage.side.pools_too = False
        await stage.user.delete(WORKSPACES, "served", "default")
        await asked(audit, OPERATOR, "karpenter.sh", "nodepools", "delete")
    assert not audit.denied.get(OPERATOR), audit.denied


DENIALS: dict[str, tuple[str, str, str]] = {
    "ConfigMaps": ("", "configmaps", "patch"),
    "Deployments": ("apps", "deployments", "patch"),
    "NodeClaims": ("karpenter.sh", "nodeclaims", "create"),
}


@pytest.mark.parametrize("missing", DENIALS.values(), ids=DENIALS)
async def test_without_a_rule_the_status_says_what_is_not_permitted(
    stage: Stage, audit: Audit, tmp_path: Path, missing: tuple[str, str, str]
) -> None:
    group, resource, verb = missing
    await grant(stage.user, without(rendered(), OPERATOR, group, resource, verb))
    stage.play(stage.side.run)
    async with operating(stage, tmp_path):
        await stage.apply(INFERENCE)
        said = await stage.wait("served", "WorkspaceReady", status="False", reason="NotPermitted")
    assert resource in said["message"]
    assert {(one.group, one.target, one.verb) for one in audit.denied[OPERATOR]} == {missing}


WEATHER = {"create": 0.05, "node": 0.01, "ready": 0.01, "gpus": 0.01, "delete": 0.05}
KINDS: tuple[Resource[Any], ...] = (NODE_CLAIMS, MACHINES)


@asynccontextmanager
async def provisioning(stage: Stage, cloud: SimulatedCloud, folder: Path) -> AsyncIterator[None]:
    """The provisioner with its account's token; the cloud's side, and its kubelets, are the administrator's."""
    kubeconfig = await kubeconfig_of(stage.user, stage.cluster, PROVISIONER, folder)
    config = ProvisionerConfig(
        lease_namespace=NAMESPACE, list_every=timedelta(seconds=0.1), orphan_grace=timedelta(seconds=0.1)
    )
    async with Client.connect(kubeconfig, field_manager="kaito-provisioner") as client:
        provisioner = Provisioner(client, SimulatedProvider(stage.user, cloud), config)
        elector = LeaderElector(client, namespace=NAMESPACE, name=config.lease_name, identity="test")
        async with running(elector.lead(provisioner.run)):
            yield


async def bind_pod(stage: Stage, name: str, node: str, grace: int) -> None:
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": grace,
        "containers": [{"name": "c", "image": "i"}],
    }
    await stage.user.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")


async def test_the_provisioners_rights_are_enough_and_each_is_needed(
    stage: Stage, audit: Audit, tmp_path: Path
) -> None:
    objects = rendered("provisioner.enabled=true", "provisioner.azure.credential=managed-identity", *NAMES_OF_AZURE)
    await grant(stage.user, objects)
    world = World(stage.user)
    invalid = {"fault": "invalid", "instanceType": "Standard_NC24s_v3"}
    cloud = SimulatedCloud(parse_scenario({"delays": WEATHER, "pollSeconds": 0.05, "faults": [invalid]}, "test"))
    async with provisioning(stage, cloud, tmp_path):
        await world.claim("ws0", instance_type="Standard_NC24s_v3")
        await asked(audit, PROVISIONER, "", "events", "create")
        for resource in KINDS:
            await live_and_die(stage, world, cloud, resource)
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        cloud.recover(Instance("orphan", InstanceState.RUNNING, claim_kind="NodeClaim", created_at=long_ago))
        await asked(audit, PROVISIONER, "karpenter.sh", "machines", "get")
    async with provisioning(stage, cloud, tmp_path):
        await asked(audit, PROVISIONER, "", "events", "patch")
    assert not audit.denied.get(PROVISIONER), audit.denied
    assert unused(atoms(objects, PROVISIONER), audit.asked[PROVISIONER]) == set()


NAMES_OF_AZURE = [f"provisioner.azure.{name}=x" for name in ("subscriptionId", "resourceGroup", "clusterName")]


async def live_and_die(stage: Stage, world: World, cloud: SimulatedCloud, resource: Resource[Any]) -> None:
    """Three ways to go: deleted with a pod to evict, or with one that must end now, and a machine that vanishes."""
    kind = resource.kind.lower()[:2]
    drained, forced, lost = f"{kind}a", f"{kind}b", f"{kind}c"
    for name in (drained, lost):
        await world.claim(name, resource)
    grace = {"terminationGracePeriod": "5s"} if resource is NODE_CLAIMS else {}
    await world.claim(forced, resource, **grace)
    for name in (drained, forced, lost):
        await world.until(name, "Ready", "True", resource)
        node = (await stage.user.get(resource, name)).status.nodeName
        await bind_pod(stage, f"pod-{name}", node, 10 if name == forced else 0)
    cloud.vanish(lost)
    await world.until_gone(lost, resource)
    for name in (drained, forced):
        await stage.user.delete(resource, name)
        await world.until_gone(name, resource)
