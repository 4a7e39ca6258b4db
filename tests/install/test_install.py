"""`kaito install` and `kaito uninstall` on the embedded control plane, whose workloads and kubelet are at work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kaito.api.crds import node_claim_crd
from kaito.install.kinds import DEPLOYMENTS, NAMESPACES
from kaito.kube.client import Client
from kaito.kube.resources import CRDS, NODE_CLAIMS, NODES, untyped
from kaito.local.scheduler import run_scheduler
from kaito.local.workloads import run_workloads
from tests.install.accounts import NAMESPACE
from tests.local.kubelet import Kubelet
from tests.nodes.test_joint import running
from tests.nodes.world import claim_body
from tests.support.cluster import Cluster
from tests.workspace.builders import INFERENCE
from tests.workspace.node_side import WORKSPACES

RAW_CRDS = untyped("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
SIMULATED = ("--set", "provisioner.enabled=true", "--set", "provisioner.provider=simulated")


@dataclass
class Site:
    """A cluster with one node, and a person with `kaito`."""

    cluster: Cluster
    user: Client

    async def kaito(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kaito.cli.main", *arguments]
        environment = self.cluster.environment()
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=120, env=environment
        )

    async def names(self, resource: Any, namespace: str = "") -> set[str]:
        return {item["metadata"]["name"] for item, _ in (await self.user.list(resource, namespace)).items}


@pytest.fixture
async def site(cluster: Cluster) -> AsyncIterator[Site]:
    async with Client.connect(cluster.kubeconfig, field_manager="test") as user:
        kubelet = Kubelet(user, node="node-1")
        await kubelet.register()
        await user.patch(NODES, "node-1", {"metadata": {"labels": {"kubernetes.io/os": "linux"}}})
        work = (run_workloads(user), run_scheduler(user), kubelet.informer.run(), kubelet.controller.run())
        async with running(*work):
            yield Site(cluster, user)


@pytest.mark.slow
async def test_install_again_change_and_uninstall(site: Site) -> None:
    first = await site.kaito("install", *SIMULATED)
    assert first.returncode == 0, first.stderr
    assert "deployment/kaito-operator is ready" in first.stdout
    assert "deployment/kaito-provisioner is ready" in first.stdout
    again = await site.kaito("install", *SIMULATED)
    changes = [line for line in again.stdout.splitlines() if not line.endswith(("unchanged", "is ready"))]
    assert (again.returncode, changes) == (0, [])
    await site.user.create(WORKSPACES, {**INFERENCE, "metadata": {"name": "served"}}, "default")
    less = await site.kaito("install", "--set", "operator.replicas=2")
    assert less.returncode == 0, less.stderr
    assert "deployment.apps/kaito-operator configured" in less.stdout
    assert "deployment.apps/kaito-provisioner deleted, this installation has none" in less.stdout
    assert await site.names(DEPLOYMENTS, NAMESPACE) == {"kaito-operator"}
    assert "nodeclaims.karpenter.sh" in await site.names(RAW_CRDS), "claims are never deleted along"
    gone = await site.kaito("uninstall")
    assert gone.returncode == 0, gone.stderr
    assert "need one to be deleted: default/served" in gone.stdout
    assert await site.names(DEPLOYMENTS, NAMESPACE) == set()
    assert await site.names(WORKSPACES, "default") == {"served"}
    refused = await site.kaito("uninstall", "--crds")
    assert refused.returncode == 1
    assert "default/served" in refused.stderr
    await site.user.delete(WORKSPACES, "served", "default")
    await site.user.create(NODE_CLAIMS, claim_body("left", NODE_CLAIMS))
    assert "left" in (await site.kaito("uninstall", "--crds")).stderr
    await site.user.delete(NODE_CLAIMS, "left")
    assert (await site.kaito("uninstall", "--crds")).returncode == 0
    assert await site.names(RAW_CRDS) == set()


@pytest.mark.slow
async def test_crds_of_another_owner_are_left_alone(site: Site) -> None:
    body = node_claim_crd()
    body["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "karpenter"}
    await site.user.create(CRDS, body)
    before = await site.user.get(RAW_CRDS, "nodeclaims.karpenter.sh")
    done = await site.kaito("install", "--no-wait", *SIMULATED)
    assert done.returncode == 0, done.stderr
    after = await site.user.get(RAW_CRDS, "nodeclaims.karpenter.sh")
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert "machines.karpenter.sh" in await site.names(RAW_CRDS)


@pytest.mark.slow
async def test_what_does_not_come_up_is_told(site: Site) -> None:
    done = await site.kaito("install", "--timeout", "2s", "--set", "operator.nodeSelector.disk=ssd")
    assert done.returncode == 4
    assert "deployment/kaito-operator is not ready after 2 s" in done.stderr
    assert "node" in done.stderr, "the scheduler's own words"
    assert "kubectl -n kaito-system describe pods" in done.stderr


async def test_an_installation_of_helm_is_not_touched(site: Site, tmp_path: Path) -> None:
    annotations = {"meta.helm.sh/release-name": "kaito", "meta.helm.sh/release-namespace": NAMESPACE}
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {
        "metadata": {"name": "kaito-operator", "annotations": annotations},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod},
    }
    await site.user.create(untyped("", "v1", "namespaces", "Namespace", False), {"metadata": {"name": NAMESPACE}})
    await site.user.create(DEPLOYMENTS, body, NAMESPACE)
    done = await site.kaito("install")
    assert done.returncode == 1
    assert "belongs to the Helm release kaito-system/kaito" in done.stderr
    assert "helm upgrade kaito -n kaito-system" in done.stderr
    assert await site.names(RAW_CRDS) == set()


async def test_a_running_operator_of_kaito_is_a_rival(site: Site) -> None:
    image = "mcr.microsoft.com/aks/kaito/workspace:0.12.0"
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    body = {"metadata": {"name": "kaito"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    await site.user.create(DEPLOYMENTS, body, "default")
    refused = await site.kaito("install", "--no-wait")
    assert refused.returncode == 1
    assert "kubectl -n default scale deployment kaito --replicas=0" in refused.stderr
    await site.user.patch(DEPLOYMENTS, "kaito", {"spec": {"replicas": 0}}, "default")
    assert (await site.kaito("install", "--no-wait")).returncode == 0


async def test_a_namespace_that_is_there_stays_as_it_is(site: Site) -> None:
    await site.user.create(NAMESPACES, {"metadata": {"name": "ours", "labels": {"team": "ml"}}})
    done = await site.kaito("install", "--no-wait", "-n", "ours")
    assert done.returncode == 0, done.stderr
    assert "Nobody here makes nodes of NodeClaims yet: --set provisioner.enabled=true" in done.stderr
    labels = (await site.user.get(NAMESPACES, "ours"))["metadata"]["labels"]
    assert "pod-security.kubernetes.io/enforce" not in labels
    assert "kind: Namespace\n" not in (await site.kaito("install", "--dry-run", "-n", "kube-system")).stdout
