"""Helm's whole life of a release on the embedded control plane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm import CHART, helm_python
from tests.support.cluster import Cluster

NAMESPACE = "kaito-system"
SIMULATED = {"provisioner": {"enabled": True, "provider": "simulated"}}
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WEBHOOK = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/validation.workspace.kaito.sh"


@pytest.fixture
def helm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Helm, on this cluster; its caches are in the cluster's folder."""
    library = helm_python()
    for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"):
        monkeypatch.setenv(name, str(cluster.home))
    with library.Config(kubeconfig_path=str(cluster.kubeconfig), namespace=NAMESPACE) as config:
        yield config


def names(cluster: Cluster, path: str) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.request("GET", path).json().get("items", [])}


def replicas(cluster: Cluster) -> int:
    return int(cluster.request("GET", f"{DEPLOYMENTS}/kaito-operator").json()["spec"]["replicas"])


@pytest.mark.slow
def test_install_upgrade_roll_back_and_uninstall(helm: Any, cluster: Cluster) -> None:
    helm.install(str(CHART), "kaito", SIMULATED, namespace=NAMESPACE, create_namespace=True)
    assert names(cluster, DEPLOYMENTS) == {"kaito-operator", "kaito-provisioner"}
    assert {"workspaces.kaito.sh", "nodeclaims.karpenter.sh", "machines.karpenter.sh"} <= names(cluster, CRDS)
    bundle(cluster)
    helm.upgrade(str(CHART), "kaito", {"operator": {"replicas": 2}}, namespace=NAMESPACE)
    assert names(cluster, DEPLOYMENTS) == {"kaito-operator"}
    assert replicas(cluster) == 2
    assert cluster.request("GET", WEBHOOK).json()["webhooks"][0]["clientConfig"]["caBundle"] == "b3duZWQ="
    assert "nodeclaims.karpenter.sh" in names(cluster, CRDS), "CRDs are kept though no template has them"
    helm.rollback("kaito", version=1)
    assert names(cluster, DEPLOYMENTS) == {"kaito-operator", "kaito-provisioner"}
    assert replicas(cluster) == 1
    assert cluster.request("DELETE", WEBHOOK).code == 200  # the test's bundle is no certificate
    post_workspace(cluster)
    helm.uninstall("kaito")
    assert names(cluster, DEPLOYMENTS) == set()
    assert names(cluster, "/apis/kaito.sh/v1beta1/workspaces") == {"kept"}
    assert cluster.request("GET", WEBHOOK).code == 404


def bundle(cluster: Cluster) -> None:
    """What the operator does: it puts its authority into the configuration."""
    patch = {"webhooks": [{"name": "validation.workspace.kaito.sh", "clientConfig": {"caBundle": "b3duZWQ="}}]}
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    assert cluster.request("PATCH", f"{WEBHOOK}?fieldManager=kaito-workspace", patch, headers).code == 200


def post_workspace(cluster: Cluster) -> None:
    body = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "kept"},
        "resource": {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"a": "b"}}},
        "inference": {"preset": {"name": "tiny-phi-3"}},
    }
    assert cluster.request("POST", "/apis/kaito.sh/v1beta1/namespaces/default/workspaces", body).code == 201


@pytest.mark.slow
def test_crds_of_another_release_are_left_alone(helm: Any, cluster: Cluster, tmp_path: Path) -> None:
    from kaito.api.crds import node_claim_crd

    body = node_claim_crd()
    body["metadata"]["annotations"] = {"meta.helm.sh/release-name": "karpenter"}
    assert cluster.request("POST", CRDS, body).code == 201
    helm.install(str(CHART), "kaito", SIMULATED, namespace=NAMESPACE, create_namespace=True)
    helm.upgrade(str(CHART), "kaito", SIMULATED, namespace=NAMESPACE)
    found = cluster.request("GET", f"{CRDS}/nodeclaims.karpenter.sh").json()["metadata"]
    assert found["annotations"] == {"meta.helm.sh/release-name": "karpenter"}
    assert "machines.karpenter.sh" in names(cluster, CRDS)
