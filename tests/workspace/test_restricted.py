"""Pods in a namespace that enforces the "restricted" Pod Security Standard: only a real kube-apiserver checks that."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.kube.client import Client
from tests.support.real_cluster import RealCluster
from tests.workspace.builders import INFERENCE, TUNING
from tests.workspace.node_side import PODS
from tests.workspace.test_convergence import LARGE, converge
from tests.workspace.world import World

NAMESPACE = "restricted"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.parametrize(
    ("base", "kind"),
    [(TUNING, "jobs"), (INFERENCE, "deployments"), (LARGE, "statefulsets"), (TUNING, "deployments")],
    ids=["training", "server", "server on several nodes", "server of what was trained"],
)
async def test_our_pods_are_let_in(real_cluster: RealCluster | None, base: dict[str, Any], kind: str) -> None:
    if real_cluster is None:
        pytest.skip("KUBEBUILDER_ASSETS names no kube-apiserver")
    world = World(base)
    converge(world)
    template = world.one(kind)["spec"]["template"]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": RESTRICTED}}
    answer = real_cluster.request("POST", "/api/v1/namespaces", namespace)
    assert answer.code in (201, 409)
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "checked", "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    }
    answer = real_cluster.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", body)
    assert answer.code == 201, answer.json()["message"]
    async with Client.connect(real_cluster.kubeconfig) as client:
        assert not (await client.list(PODS, NAMESPACE)).items
