"""Each rule is needed, and all together are enough: whole lives, lived with the accounts' tokens alone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kaito.install.kinds import resource_of
from kaito.kube.certificates import make_certificate
from kaito.kube.resources import SECRETS, untyped
from kaito.workspace.admission import SECRET
from kaito.workspace.operator import OperatorConfig, run_operator
from tests.install.accounts import NAMESPACE, Audit, atoms, grant, kubeconfig_of, rendered, unused
from tests.workspace.builders import INFERENCE, TUNING, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import PODS, WORKSPACES, ended, pod_status, until
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
    import socket

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
        return await stage.user.find(untyped("batch", "v1", "jobs", "Job", True), "wrong", "default")

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
