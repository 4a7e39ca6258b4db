"""From `kaito install --dry-run | kubectl apply -f -` to a served and a tuned model, with the real processes.

Operator and provisioner run as their Deployments say, with their accounts' tokens. The workload controllers and the
scheduler are real; the cloud is simulated, and what runs in the pods is played.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api.core import Generic
from kaito.install.kinds import DEPLOYMENTS
from kaito.kube.client import Client
from kaito.kube.resources import NODE_CLAIMS, NODES, untyped
from kaito.local.scheduler import run_scheduler
from kaito.local.workloads import run_workloads
from tests.install.accounts import NAMESPACE, Audit, kubeconfig_of
from tests.local.kubelet import Kubelet
from tests.nodes.test_joint import running
from tests.support.cluster import Cluster
from tests.workspace.builders import INFERENCE, TUNING, changed
from tests.workspace.node_side import WORKSPACES, trained, until

PATIENCE = 60.0
QUICK = {"delays": {"create": 0.1, "node": 0.05, "ready": 0.05, "gpus": 0.05, "delete": 0.1}, "pollSeconds": 0.05}
SERVICES = untyped("", "v1", "services", "Service", True)
SIMULATED = ("--set", "provisioner.enabled=true", "--set", "provisioner.provider=simulated")


class Worker(Kubelet):
    """A kubelet on which training succeeds."""

    def _status(self, pod: Generic) -> dict[str, Any]:
        if pod.metadata.labels.get("kaito.sh/role") == "tune":
            return {**super()._status(pod), **trained()}
        return super()._status(pod)


@pytest.fixture
def installed(cluster: Cluster) -> Cluster:
    """The brief way that the documents teach, with the user's own kubectl."""
    command = [sys.executable, "-m", "kaito.cli.main", "install", "--dry-run", *SIMULATED]
    manifests = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    done = cluster.kubectl("apply", "-f", "-", stdin=manifests)
    assert done.returncode == 0, done.stderr
    again = cluster.kubectl("apply", "-f", "-", stdin=manifests)
    # kubectl always patches a budget's selector, which is replaced as a whole.
    lines = [line for line in again.stdout.splitlines() if not line.startswith("poddisruptionbudget")]
    assert all(line.endswith("unchanged") for line in lines), again.stdout
    return cluster


def can_listen(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def container_arguments(user: Client, name: str) -> list[str]:
    deployment = await user.get(DEPLOYMENTS, name, NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: list[str] = container["args"]
    return found


@asynccontextmanager
async def process(cluster: Cluster, kubeconfig: Path, arguments: list[str], log: Path) -> AsyncIterator[None]:
    """One container of a Deployment as a process of this machine."""
    environment = {**cluster.environment(), "KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "kaito.cli.main", *arguments]
    with log.open("wb") as file:
        started = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        yield
        assert started.poll() is None, log.read_text()
    finally:
        started.terminate()
        await asyncio.to_thread(started.wait, 30)


@asynccontextmanager
async def suite(cluster: Cluster, user: Client, folder: Path, webhook_host: str) -> AsyncIterator[None]:
    """Both processes, with ports of the machine in place of the pod's."""
    quick = folder / "quick.yaml"
    quick.write_text(yaml.safe_dump(QUICK))
    operator = [word for word in await container_arguments(user, "kaito-operator") if "-port=" not in word]
    operator += ["--host", webhook_host, "--webhook-port=443"] if webhook_host else []
    provisioner = [word for word in await container_arguments(user, "kaito-provisioner") if "-port=" not in word]
    provisioner += ["--faults", str(quick)]
    logs = {name: folder / f"{name}.log" for name in ("operator", "provisioner")}
    files = {name: await kubeconfig_of(user, cluster, f"kaito-{name}", folder) for name in logs}
    async with (
        process(cluster, files["operator"], operator, logs["operator"]),
        process(cluster, files["provisioner"], provisioner, logs["provisioner"]),
    ):
        yield


async def condition(user: Client, name: str, type_: str) -> dict[str, Any]:
    found = await user.find(WORKSPACES, name, "default")
    listed = (found or {}).get("status", {}).get("conditions", [])
    return next((one for one in listed if one["type"] == type_), {})


async def until_true(user: Client, name: str, type_: str) -> None:
    async def check() -> bool:
        return (await condition(user, name, type_)).get("status") == "True"

    try:
        await until(check, PATIENCE)
    except AssertionError:
        raise AssertionError(f"{name}: {await user.find(WORKSPACES, name, 'default')}") from None


async def play_kubelets(user: Client) -> None:
    """One for every node that the provisioner brings."""
    async with asyncio.TaskGroup() as group:
        known: set[str] = set()
        while True:
            for node, _ in (await user.list(NODES)).items:
                if node.metadata.name not in known:
                    known.add(node.metadata.name)
                    worker = Worker(user, node=node.metadata.name)
                    group.create_task(worker.informer.run())
                    group.create_task(worker.controller.run())
            await asyncio.sleep(0.1)


def manifest(workspace: dict[str, Any]) -> str:
    kept = {key: value for key, value in workspace["metadata"].items() if key in ("name", "namespace")}
    return json.dumps({**workspace, "metadata": kept})


@pytest.mark.tools
@pytest.mark.slow
async def test_apply_node_ready_delete_with_the_accounts_rights(
    installed: Cluster, audit: Audit, tmp_path: Path
) -> None:
    push = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "push"}}
    push |= {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}}
    async with (
        Client.connect(installed.kubeconfig, field_manager="test") as user,
        running(run_workloads(user), run_scheduler(user), play_kubelets(user)),
    ):
        service = await user.get(SERVICES, "kaito-operator", NAMESPACE)
        address = service["spec"]["clusterIP"]
        host = address if can_listen(address, 443) else ""
        async with suite(installed, user, tmp_path, host):
            if host:
                await refuses_what_is_wrong(installed)
            for text in (json.dumps(push), manifest(INFERENCE), manifest(TUNING)):
                done = await asyncio.to_thread(installed.kubectl, "apply", "-f", "-", stdin=text)
                assert done.returncode == 0, done.stderr
            await until_true(user, "served", "WorkspaceReady")
            await until_true(user, "tuned", "TuningSucceeded")
            await until_true(user, "tuned", "WorkspaceReady")
            for name in ("served", "tuned"):
                await user.delete(WORKSPACES, name, "default")

            async def bare() -> bool:
                left = [(await user.list(kind)).items for kind in (WORKSPACES, NODE_CLAIMS, NODES)]
                return not any(left)

            await until(bare, PATIENCE)
    for account in ("kaito-operator", "kaito-provisioner"):
        assert audit.asked[account]
        assert not audit.denied.get(account), audit.denied


async def refuses_what_is_wrong(cluster: Cluster) -> None:
    """Through the Service, by the configuration that was installed, once the operator has put its authority there."""
    bad = manifest(changed(INFERENCE, {"inference.preset.name": "tiny-phi3"}))

    async def refused() -> bool:
        done = await asyncio.to_thread(cluster.kubectl, "apply", "--dry-run=server", "-f", "-", stdin=bad)
        return "Did you mean tiny-phi-3" in done.stderr

    await until(refused, PATIENCE)
