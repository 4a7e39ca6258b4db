"""The API server that controllers are tested against: a real one where KUBEBUILDER_ASSETS names it, else embedded.

A conftest imports both fixtures. A test that needs what only the embedded server has is marked `embedded`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster
from tests.support.real_cluster import RealCluster, assets, wait_until

from kaito.api.crds import machine_crd, node_claim_crd, node_pool_crd, workspace_crd

CRDS_OF_TESTS = (workspace_crd(), node_claim_crd(), machine_crd(), node_pool_crd())
IN_NAMESPACE = (
    "apis/kaito.sh/v1beta1/namespaces/default/workspaces",
    *(f"apis/apps/v1/namespaces/default/{kind}" for kind in ("deployments", "statefulsets")),
    *(f"api/v1/namespaces/default/{kind}" for kind in ("pods", "configmaps", "secrets", "services", "events")),
    "apis/batch/v1/namespaces/default/jobs",
    "apis/coordination.k8s.io/v1/namespaces/default/leases",
    "api/v1/namespaces/kaito-system/configmaps",
)
OF_CLUSTER = (
    *(f"apis/karpenter.sh/{kind}" for kind in ("v1/nodepools", "v1/nodeclaims", "v1alpha5/machines")),
    "api/v1/nodes",
    "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
)


def is_going(cluster: RealCluster, crd: str) -> bool:
    """A test may have deleted a kind, which takes a moment."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}"
    return bool(cluster.request("GET", path).json()["metadata"].get("deletionTimestamp"))


def wipe(cluster: RealCluster) -> None:
    """Remove what tests made, finalizers or not; nobody collects garbage here."""
    for path in (*OF_CLUSTER[::-1], *IN_NAMESPACE):
        for item in cluster.request("GET", f"/{path}").json().get("items") or ():
            name = item["metadata"]["name"]
            if name in ("kubernetes", "kube-root-ca.crt"):
                continue
            if item["metadata"].get("finalizers"):
                merge = {"Content-Type": "application/merge-patch+json"}
                cluster.request("PATCH", f"/{path}/{name}", {"metadata": {"finalizers": None}}, merge)
            cluster.request("DELETE", f"/{path}/{name}", {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})


@pytest.fixture(scope="session")
def real_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster | None]:
    """A real kube-apiserver for all tests where KUBEBUILDER_ASSETS names one; None elsewhere."""
    programs = assets()
    if programs is None:
        yield None
        return
    running = RealCluster(programs, tmp_path_factory.mktemp("real") / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, real_cluster: RealCluster | None, tmp_path: Path
) -> Iterator[Cluster | RealCluster]:
    """The real API server, wiped, where there is one; else an embedded one of this test's own."""
    if real_cluster is not None:
        if request.node.get_closest_marker("embedded"):
            pytest.skip("needs what only the embedded API server has")
        for crd in CRDS_OF_TESTS:
            wait_until(lambda name=crd["metadata"]["name"]: not is_going(real_cluster, name), "a CRD does not go")
            real_cluster.create_crd(crd)
        wipe(real_cluster)
        yield real_cluster
        return
    running = Cluster(tmp_path / "home")
    running.start()
    yield running
    running.stop()
