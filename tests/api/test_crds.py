"""The CRDs: what people see of them, and what their schemas and rules take, by the API server itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kaito.api.crds import machine_crd, node_claim_crd, node_pool_crd, workspace_crd
from tests.support.cluster import Cluster
from tests.workspace.builders import INFERENCE, TUNING, changed

README_COLUMNS = ["Instance", "ResourceReady", "InferenceReady", "WorkspaceReady", "Age"]


@pytest.mark.parametrize("version", [0, 1], ids=["v1alpha1", "v1beta1"])
def test_columns_are_those_of_the_readme(version: int) -> None:
    columns = workspace_crd()["spec"]["versions"][version]["additionalPrinterColumns"]
    assert [c["name"] for c in columns if not c.get("priority")] == README_COLUMNS
    wide = {c["name"] for c in columns if c.get("priority") == 1}
    assert wide >= {"JobStarted", "WorkspaceSucceeded", "State", "Nodes", "Step", "Loss"}


def test_names_people_type() -> None:
    names = workspace_crd()["spec"]["names"]
    assert names["shortNames"] == ["wk", "wks"]
    assert names["categories"] == ["workspace"]


def test_both_versions_have_one_shape_but_for_the_default() -> None:
    alpha, beta = (v["schema"]["openAPIV3Schema"] for v in workspace_crd()["spec"]["versions"])
    resource = alpha["properties"]["resource"]["properties"]
    assert resource["instanceType"].pop("default") == "Standard_NC24ads_A100_v4"
    assert alpha == beta


@pytest.mark.parametrize(
    "crd", [workspace_crd(), node_claim_crd(), machine_crd(), node_pool_crd()], ids=lambda c: c["metadata"]["name"]
)
def test_one_version_is_stored_and_all_have_status(crd: dict[str, Any]) -> None:
    versions = crd["spec"]["versions"]
    assert sum(v["storage"] for v in versions) == 1
    assert all(v["subresources"] == {"status": {}} for v in versions)
    assert json.loads(json.dumps(crd)) == crd


@pytest.fixture
def served(cluster: Cluster) -> Cluster:
    for crd in (workspace_crd(), node_claim_crd()):
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        name = crd["metadata"]["name"]
        if cluster.request("GET", f"{path}/{name}").code == 404:
            answer = cluster.request("POST", path, crd)
            assert answer.code == 201, answer.body
    return cluster


def create(cluster: Cluster, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    version = body["apiVersion"].partition("/")[2]
    kept = {k: v for k, v in body["metadata"].items() if k in ("name", "annotations", "labels")}
    path = f"/apis/kaito.sh/{version}/namespaces/default/workspaces"
    answer = cluster.request("POST", path, {**body, "metadata": kept})
    return answer.code, answer.json()


def test_defaults_of_the_version(served: Cluster) -> None:
    code, made = create(served, changed(TUNING, {"resource.instanceType": None, "resource.count": None}))
    assert code == 201
    assert made["resource"]["instanceType"] == "Standard_NC24ads_A100_v4"
    assert made["resource"]["count"] == 1
    code, made = create(served, changed(INFERENCE, {"resource.instanceType": None}))
    assert code == 201
    assert "instanceType" not in made["resource"]


REFUSED = {
    "neither": (changed(INFERENCE, {"inference": None}), "one of inference and tuning"),
    "both": (changed(INFERENCE, {"tuning": TUNING["tuning"]}), "cannot both be given"),
    "long name": (changed(INFERENCE, {"metadata.name": "a" * 64}), "at most 63"),
    "name with a dot": (changed(INFERENCE, {"metadata.name": "a.b"}), "lower-case"),
    "odd method": (changed(TUNING, {"tuning.method": "dpo"}), "lora, qlora"),
    "preset and template": (changed(INFERENCE, {"inference.template": {}}), "preset and template"),
    "count of text": (changed(INFERENCE, {"resource.count": "two"}), "resource.count"),
    "count of 0": (changed(INFERENCE, {"resource.count": 0}), "resource.count"),
    "no selector": (changed(INFERENCE, {"resource.labelSelector": None}), "labelSelector"),
    "eleven adapters": (changed(INFERENCE, {"inference.adapters": [{}] * 11}), "adapters"),
    "odd access mode": (changed(INFERENCE, {"inference.preset.accessMode": "secret"}), "accessMode"),
}


@pytest.mark.parametrize(("body", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_without_any_webhook(served: Cluster, body: dict[str, Any], words: str) -> None:
    code, answer = create(served, body)
    assert code == 422, answer
    assert words in answer["message"]


def test_what_may_not_change(served: Cluster) -> None:
    assert create(served, INFERENCE)[0] == 201
    path = "/apis/kaito.sh/v1beta1/namespaces/default/workspaces/served"
    merge = {"Content-Type": "application/merge-patch+json"}
    for patch, words in (
        ({"inference": {"preset": {"name": "phi-4"}}}, "preset.name: cannot be changed"),
        ({"resource": {"instanceType": "Standard_ND96isr_H100_v5"}}, "resource.instanceType"),
        ({"resource": {"labelSelector": {"matchLabels": {"app": "x"}}}}, "resource.labelSelector"),
    ):
        answer = served.request("PATCH", path, patch, merge)
        assert answer.code == 422, answer.body
        assert words in answer.json()["message"]
    adapters = [{"source": {"name": "a", "image": "r.example/a:1"}}]
    assert served.request("PATCH", path, {"inference": {"adapters": adapters}}, merge).code == 200


def test_volume_sources_and_templates_are_kept_whole(served: Cluster) -> None:
    claim = {"persistentVolumeClaim": {"claimName": "d", "readOnly": True}}
    code, made = create(served, changed(TUNING, {"tuning.input": {"volumeSource": claim}}))
    assert code == 201
    assert made["tuning"]["input"]["volumeSource"] == claim
