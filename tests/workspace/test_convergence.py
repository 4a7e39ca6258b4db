"""Plan and act against a small world: it converges, from every point where the controller may have died."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kaito.api.workspace import LABEL_WORKSPACE
from kaito.kube.resources import MACHINES, NODE_CLAIMS, NODE_CLAIMS_V1BETA1, Resource
from kaito.workspace.settings import Settings
from tests.workspace.builders import INFERENCE, TUNING, annotated
from tests.workspace.world import World, node

BYO = Settings(node_mode="byo", runtime_image="kaito/runtime:test")
WORKSPACES = {
    "tuning": TUNING,
    "tuning, not served": annotated(TUNING, serve_after_tuning="false"),
    "inference": INFERENCE,
}


def converge(world: World) -> None:
    world.settle()
    assert world.condition("WorkspaceReady")["status"] == "True", world.condition("WorkspaceReady")


@pytest.mark.parametrize("api", [NODE_CLAIMS, NODE_CLAIMS_V1BETA1, MACHINES], ids=lambda api: api.api_version)
@pytest.mark.parametrize("workspace", WORKSPACES.values(), ids=WORKSPACES)
def test_converges(workspace: dict[str, Any], api: Resource[Any]) -> None:
    world = World(workspace, claim_api=api)
    converge(world)
    assert len(world.all(api.plural)) == 1
    before = world.writes
    world.reconcile()
    assert world.writes == before, "a Workspace at rest is written again"


@pytest.mark.parametrize("workspace", WORKSPACES.values(), ids=WORKSPACES)
def test_converges_after_a_crash_at_every_write(workspace: dict[str, Any]) -> None:
    """Whatever the plan had left undone is done by the next one, and no child is made twice."""
    for crash in range(6):
        for at_round in range(16):
            world = World(workspace)
            for number in range(at_round):
                world.reconcile(crash_after=crash if number == at_round - 1 else None)
                world.step()
            converge(world)
            made = Counter(kind for kind, _ in world.created)
            assert made["nodeclaims"] == 1, (crash, at_round)
            assert made["jobs"] <= 1, (crash, at_round)
            assert made["deployments"] <= 1, (crash, at_round)


def test_tuning_ends_as_a_server_of_the_adapter_by_digest() -> None:
    world = World(TUNING)
    converge(world)
    assert world.workspace is not None
    status = world.workspace["status"]
    assert status["tuning"]["adapter"]["digest"] == "sha256:" + "a" * 64
    assert status["state"] == "Ready"
    serve = world.one("deployments")["spec"]["template"]["spec"]
    environment = {e["name"]: e.get("value") for e in serve["containers"][0]["env"]}
    assert environment["KAITO_DEFAULT_MODEL"] == "tuned"
    pulled = {e["name"]: e.get("value") for e in serve["initContainers"][1]["env"]}
    assert pulled["KAITO_ADAPTER_IMAGE"] == "registry.example.com/team/adapter@sha256:" + "a" * 64
    for kind in ("ResourceReady", "JobStarted", "TuningSucceeded", "InferenceReady", "WorkspaceSucceeded"):
        assert world.condition(kind)["status"] == "True", kind


def test_a_job_that_is_gone_after_success_is_not_made_again() -> None:
    world = World(TUNING)
    converge(world)
    del world.objects["jobs", "tuned"]
    converge(world)
    assert not world.all("jobs")


def test_a_changed_spec_trains_again_and_serves_the_new_adapter() -> None:
    world = World(TUNING)
    converge(world)
    assert world.workspace is not None
    world.workspace["tuning"]["input"]["urls"] = ["https://example.com/other.parquet"]
    world.workspace["metadata"]["generation"] = 2
    converge(world)
    assert Counter(kind for kind, _ in world.created)["jobs"] == 2
    assert world.condition("TuningSucceeded")["observedGeneration"] == 2


def test_a_mended_push_secret_repeats_nothing() -> None:
    world = World(TUNING)
    converge(world)
    world.put("secrets", {"metadata": {"name": "push"}, "data": {".dockerconfigjson": "bmV3"}})
    converge(world)
    assert Counter(kind for kind, _ in world.created)["jobs"] == 1


def test_existing_nodes_are_used_before_claims() -> None:
    world = World(INFERENCE)
    labels = {"app": "phi", "node.kubernetes.io/instance-type": "Standard_NC6s_v3"}
    world.put("nodes", node("mine", labels))
    converge(world)
    assert not world.all("nodeclaims")
    assert world.workspace is not None
    assert world.workspace["status"]["workerNodes"] == ["mine"]
    selector = world.one("deployments")["spec"]["template"]["spec"]["nodeSelector"]
    assert selector == {"app": "phi"}


def test_a_claimed_node_is_selected_by_its_owner() -> None:
    world = World(INFERENCE)
    converge(world)
    selector = world.one("deployments")["spec"]["template"]["spec"]["nodeSelector"]
    assert selector == {"app": "phi", LABEL_WORKSPACE: "served", "kaito.sh/workspacenamespace": "default"}


def test_deletion_deletes_the_claims_and_lets_go() -> None:
    world = World(INFERENCE)
    converge(world)
    assert world.workspace is not None
    world.workspace["metadata"]["deletionTimestamp"] = "2026-07-01T13:00:00Z"
    world.reconcile()
    assert world.workspace is None
    assert not world.all("nodeclaims")


def test_deletion_without_a_node_api_does_not_hang() -> None:
    world = World(INFERENCE)
    converge(world)
    world.claim_api = None
    assert world.workspace is not None
    world.workspace["metadata"]["deletionTimestamp"] = "2026-07-01T13:00:00Z"
    world.reconcile()
    assert world.workspace is None


def test_ten_writes_are_enough_for_an_inference_workspace() -> None:
    world = World(INFERENCE)
    converge(world)
    assert world.writes <= 10
