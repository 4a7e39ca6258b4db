"""Moving from KAITO's own chart: its release has the Workspace CRD in a template, without Helm's keep policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api.crds import workspace_crd
from tests.chart.helm import CHART
from tests.chart.test_release import CRDS, NAMESPACE, helm, names, post_workspace
from tests.support.cluster import Cluster

__all__ = ["helm"]

CRD = f"{CRDS}/workspaces.kaito.sh"
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: workspace\nversion: 0.12.0\n")
    (folder / "templates" / "crd.yaml").write_text(yaml.safe_dump(workspace_crd()))
    return folder


def annotate(cluster: Cluster, path: str, **annotations: str) -> None:
    named = {key.replace("__", "/").replace("_", "-"): value for key, value in annotations.items()}
    answer = cluster.request("PATCH", path, {"metadata": {"annotations": named}}, MERGE)
    assert answer.code == 200, answer.body


@pytest.mark.slow
def test_an_annotation_on_the_object_does_not_keep_it(helm: Any, cluster: Cluster, theirs: Path) -> None:
    """Why the documents tell to forget the release: Helm reads its own record, and takes all Workspaces along."""
    helm.install(str(theirs), "kaito-workspace", {}, namespace=NAMESPACE, create_namespace=True)
    annotate(cluster, CRD, **{"helm.sh__resource_policy": "keep"})
    helm.uninstall("kaito-workspace")
    assert cluster.request("GET", CRD).code == 404


@pytest.mark.slow
def test_a_release_that_is_forgotten_leaves_its_crd_to_the_next(helm: Any, cluster: Cluster, theirs: Path) -> None:
    """The way of docs/comparison.md."""
    helm.install(str(theirs), "kaito-workspace", {}, namespace=NAMESPACE, create_namespace=True)
    post_workspace(cluster)
    records = f"/api/v1/namespaces/{NAMESPACE}/secrets?labelSelector=owner%3Dhelm,name%3Dkaito-workspace"
    assert cluster.request("DELETE", records).code == 200
    annotate(cluster, CRD, **{"meta.helm.sh__release_name": "kaito", "meta.helm.sh__release_namespace": NAMESPACE})
    helm.install(str(CHART), "kaito", {}, namespace=NAMESPACE)
    assert [release["name"] for release in helm.list()] == ["kaito"]
    helm.uninstall("kaito")
    assert names(cluster, "/apis/kaito.sh/v1beta1/workspaces") == {"kept"}
