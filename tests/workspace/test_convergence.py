"""Plan and act against a small world: it converges, from every point where the controller may have died."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import yaml

from kaito.api.workspace import LABEL_WORKSPACE
from kaito.kube.resources import MACHINES, NODE_CLAIMS, NODE_CLAIMS_V1BETA1, Resource
from kaito.workspace.settings import NodeClass, Settings
from tests.workspace.builders import INFERENCE, SETTINGS, TUNING, annotated, changed
from tests.workspace.world import World, node

BYO = Settings(node_mode="byo", runtime_image="kaito/runtime:test")
KARPENTER = Settings(node_mode="karpenter", runtime_image="kaito/runtime:test")
POOLS = Settings(
    node_mode="karpenter",
    runtime_image="kaito/runtime:test",
    node_class=NodeClass("karpenter.k8s.aws", "v1", "EC2NodeClass", "gpu"),
    uses_pools=True,
)
LARGE = changed(
    INFERENCE,
    {
        "inference.preset": {"name": "llama-3.3-70b-instruct", "presetOptions": {"modelAccessSecret": "hf"}},
        "resource.instanceType": "Standard_NC24ads_A100_v4",
    },
)
TEMPLATE = changed(
    INFERENCE, {"inference": {"template": {"spec": {"containers": [{"name": "main", "image": "mine:1"}]}}}}
)
VOLUME = {"hostPath": {"path": "/srv/results"}}
INTO_VOLUME = changed(TUNING, {"tuning.output": {"volumeSource": VOLUME}})
WORKSPACES = {
    "tuning": TUNING,
    "tuning into a volume": INTO_VOLUME,
    "tuning, not served": annotated(TUNING, serve_after_tuning="false"),
    "inference": INFERENCE,
    "inference on several nodes": LARGE,
    "pod template": TEMPLATE,
}


def converge(world: World) -> None:
    world.settle()
    assert world.condition("WorkspaceReady")["status"] == "True", world.condition("WorkspaceReady")


@pytest.mark.parametrize("api", [NODE_CLAIMS, NODE_CLAIMS_V1BETA1, MACHINES], ids=lambda api: api.api_version)
@pytest.mark.parametrize("workspace", WORKSPACES.values(), ids=WORKSPACES)
def test_converges(workspace: dict[str, Any], api: Resource[Any]) -> None:
    world = World(workspace, claim_api=api)
    converge(world)
    assert world.workspace is not None
    assert len(world.all(api.plural)) == world.workspace["status"]["targetNodeCount"]
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
            assert world.workspace is not None
            assert made["nodeclaims"] == world.workspace["status"]["targetNodeCount"], (crash, at_round)
            assert made["jobs"] <= 1, (crash, at_round)
            assert made["deployments"] + made["statefulsets"] <= 1, (crash, at_round)


GPU_LABELS = {"nvidia.com/gpu.product": "A10", "nvidia.com/gpu.count": "1", "nvidia.com/gpu.memory": "23028"}
MODES: dict[str, tuple[Settings, Resource[Any] | None]] = {
    "byo": (BYO, None),
    "karpenter": (KARPENTER, NODE_CLAIMS),
    "nodepool": (POOLS, NODE_CLAIMS),
    "machine": (SETTINGS, MACHINES),
}


def in_mode(base: dict[str, Any], mode: str) -> World:
    settings, api = MODES[mode]
    if mode != "byo":
        return World(base, settings, api)
    world = World(changed(base, {"resource.instanceType": None}), settings, api)
    world.put("nodes", node("mine", {**base["resource"]["labelSelector"]["matchLabels"], **GPU_LABELS}))
    return world


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("base", [TUNING, INFERENCE], ids=["tuning", "inference"])
def test_converges_after_a_crash_in_every_node_mode(base: dict[str, Any], mode: str) -> None:
    for crash in range(6):
        for at_round in range(16):
            world = in_mode(base, mode)
            for number in range(at_round):
                world.reconcile(crash_after=crash if number == at_round - 1 else None)
                world.step()
            converge(world)
            made = Counter(kind for kind, _ in world.created)
            claims = {"byo": (0, 0), "karpenter": (1, 0), "nodepool": (1, 0), "machine": (0, 1)}[mode]
            assert made["nodepools"] == (mode == "nodepool")
            assert (made["nodeclaims"], made["machines"]) == claims, (crash, at_round)
            assert made["jobs"] == (base is TUNING), (crash, at_round)
            assert made["deployments"] == 1, (crash, at_round)


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


def test_tuning_into_a_volume_is_served_from_there() -> None:
    """The Job leaves `adapter/` in the volume; the step that serving begins with looks there, and cannot write."""
    world = World(INTO_VOLUME)
    converge(world)
    adapter = world.one("deployments")["spec"]["template"]["spec"]["initContainers"][1]
    environment = {e["name"]: e.get("value") for e in adapter["env"]}
    (mount,) = [m for m in adapter["volumeMounts"] if m["name"].startswith("source-")]
    assert environment["KAITO_ADAPTER_SOURCE_DIR"] == f"{mount['mountPath']}/adapter"
    assert mount["readOnly"] is True
    assert "KAITO_ADAPTER_IMAGE" not in environment
    volumes = {v["name"]: v for v in world.one("deployments")["spec"]["template"]["spec"]["volumes"]}
    assert volumes[mount["name"]]["hostPath"] == VOLUME["hostPath"]
    job = world.one("jobs")["spec"]["template"]["spec"]
    assert {v["name"]: v for v in job["volumes"]}["results"]["hostPath"] == VOLUME["hostPath"]
    assert "push-secret" not in str(job)


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


def test_several_nodes_are_a_stateful_set_led_by_its_first_pod() -> None:
    world = World(LARGE)
    converge(world)
    server = world.one("statefulsets")
    nodes = server["spec"]["replicas"]
    assert nodes > 1
    assert len(world.all("nodeclaims")) == nodes
    assert server["spec"]["serviceName"] == "served-headless"
    (serve,) = server["spec"]["template"]["spec"]["containers"]
    script = serve["command"][2]
    assert "ray start --head --port=6379" in script
    assert "--address=served-0.served-headless.default.svc.cluster.local:6379 --block" in script
    services = {body["metadata"]["name"]: body["spec"] for body in world.all("services")}
    assert services["served"]["selector"]["statefulset.kubernetes.io/pod-name"] == "served-0"
    assert services["served-headless"]["clusterIP"] == "None"
    config = yaml.safe_load(world.one("configmaps")["data"]["inference_config.yaml"])["vllm"]
    assert config["distributed-executor-backend"] == "ray"
    assert config["pipeline-parallel-size"] * config.get("tensor-parallel-size", 1) == nodes


def test_a_template_keeps_what_the_user_wrote() -> None:
    world = World(TEMPLATE)
    converge(world)
    template = world.one("deployments")["spec"]["template"]
    assert template["spec"]["containers"] == [{"name": "main", "image": "mine:1"}]
    assert template["spec"]["nodeSelector"]["app"] == "phi"
    assert {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"} in template["spec"][
        "tolerations"
    ]


def test_a_changed_template_rolls_out() -> None:
    world = World(TEMPLATE)
    converge(world)
    assert world.workspace is not None
    world.workspace["inference"]["template"]["spec"]["containers"][0]["image"] = "mine:2"
    converge(world)
    (pod,) = world.all("pods")
    assert world.one("deployments")["spec"]["template"]["spec"]["containers"][0]["image"] == "mine:2"
    wanted = world.one("deployments")["metadata"]["annotations"]["kaito.sh/spec-hash"]
    assert pod["metadata"]["annotations"]["kaito.sh/spec-hash"] == wanted


ADAPTER = {"source": {"name": "a1", "image": "r.example/a1:1", "imagePullSecrets": ["push"]}, "strength": "0.5"}
CHANGES: dict[str, dict[str, Any]] = {
    "adapter": {"inference.adapters": [ADAPTER]},
    "config": {"inference.config": "mine"},
    "runtime": {"metadata.annotations": {"kaito.sh/runtime": "transformers"}},
    "performance mode": {"metadata.annotations": {"kaito.sh/performance-mode": "throughput"}},
    "access secret": {"inference.preset.presetOptions": {"modelAccessSecret": "hf"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_rolls_out_and_comes_to_rest(change: dict[str, Any]) -> None:
    world = World(INFERENCE)
    world.put("configmaps", {"metadata": {"name": "mine"}, "data": {"inference_config.yaml": "vllm: {seed: 1}"}})
    world.put("secrets", {"metadata": {"name": "hf"}, "data": {"HF_TOKEN": ""}})
    converge(world)
    before = world.one("deployments")["metadata"]["annotations"]["kaito.sh/spec-hash"]
    assert world.workspace is not None
    world.workspace = changed(world.workspace, change)
    converge(world)
    assert world.one("deployments")["metadata"]["annotations"]["kaito.sh/spec-hash"] != before
    assert len(world.all("pods")) == 1


def test_the_users_engine_flags_win_over_ours() -> None:
    world = World(changed(INFERENCE, {"inference.config": "mine"}))
    text = "vllm: {gpu-memory-utilization: 0.5, seed: 1}"
    world.put("configmaps", {"metadata": {"name": "mine"}, "data": {"inference_config.yaml": text}})
    converge(world)
    made = world.objects["configmaps", "served-config"]["data"]["inference_config.yaml"]
    assert yaml.safe_load(made)["vllm"] == {"gpu-memory-utilization": 0.5, "seed": 1}


@pytest.mark.parametrize("base", [INFERENCE, TUNING], ids=["inference", "tuning"])
def test_byo_uses_the_labelled_nodes_and_makes_none(base: dict[str, Any]) -> None:
    world = World(changed(base, {"resource.instanceType": None}), BYO, claim_api=None)
    label = base["resource"]["labelSelector"]["matchLabels"]
    gfd = {"nvidia.com/gpu.product": "A10", "nvidia.com/gpu.count": "1", "nvidia.com/gpu.memory": "23028"}
    world.put("nodes", node("mine", {**label, **gfd}))
    converge(world)
    assert not world.condition("NodeClaimReady")
    assert world.workspace is not None
    assert not world.workspace["metadata"].get("finalizers"), "nothing has to be cleaned up"


def test_byo_says_which_label_is_missing() -> None:
    world = World(changed(INFERENCE, {"resource.instanceType": None}), BYO, claim_api=None)
    world.settle()
    assert world.condition("WorkspaceReady")["reason"] == "NoMatchingNodes"
    assert "app=phi" in world.condition("WorkspaceReady")["message"]


PARTS = {
    "mig": ({"mode": "mig", "profile": "1g.10gb"}, {"nvidia.com/mig-1g.10gb": "1"}),
    "accelerator": ({"mode": "accelerator", "count": 2}, {"nvidia.com/gpu": "2"}),
}


@pytest.mark.parametrize(("part", "limits"), PARTS.values(), ids=PARTS)
def test_a_part_of_a_node_is_asked_for_by_its_resource(part: dict[str, Any], limits: dict[str, str]) -> None:
    world = World(changed(INFERENCE, {"resource.instanceType": None, "resource.partition": part}), BYO, None)
    gfd = {"nvidia.com/gpu.product": "A100", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81920"}
    body = node("mine", {"app": "phi", **gfd}, gpus=8)
    body["status"]["allocatable"]["nvidia.com/mig-1g.10gb"] = "7"
    world.put("nodes", body)
    converge(world)
    serve = world.one("deployments")["spec"]["template"]["spec"]["containers"][0]
    assert serve["resources"]["limits"] == limits


def existing(world: World, *names: str, gpus: int = 1) -> None:
    gfd = {"nvidia.com/gpu.product": "A100", "nvidia.com/gpu.count": str(gpus), "nvidia.com/gpu.memory": "81920"}
    for name in names:
        world.put("nodes", node(name, {"app": "phi", **gfd}, gpus=gpus))


def strategy(world: World) -> dict[str, int]:
    return dict(world.one("deployments")["spec"]["strategy"]["rollingUpdate"])


AFTER = {"maxSurge": 0, "maxUnavailable": 1}
BESIDE = {"maxSurge": 1, "maxUnavailable": 0}
HALF = {"resource.instanceType": None, "resource.partition": {"mode": "accelerator", "count": 1}}
GPU_TEMPLATE = {
    "template": {
        "spec": {"containers": [{"name": "m", "image": "m:1", "resources": {"limits": {"nvidia.com/gpu": 2}}}]}
    }
}
ROLLOUTS: dict[str, tuple[dict[str, Any], Settings, tuple[str, ...], int, dict[str, int]]] = {
    "one node, made for it": ({}, SETTINGS, (), 1, AFTER),
    "one existing node": ({"resource.instanceType": None}, BYO, ("a",), 1, AFTER),
    "two existing nodes": ({"resource.instanceType": None}, BYO, ("a", "b"), 1, BESIDE),
    "half a node": (HALF, BYO, ("a",), 2, BESIDE),
    "a whole node of two": ({"resource.instanceType": None}, BYO, ("a",), 2, AFTER),
    "a template without GPUs": ({"inference": TEMPLATE["inference"]}, SETTINGS, (), 1, BESIDE),
    "a template with all GPUs": ({"inference": GPU_TEMPLATE, "resource.instanceType": None}, BYO, ("a",), 2, AFTER),
    "a template with half of them": (
        {"inference": GPU_TEMPLATE, "resource.instanceType": None},
        BYO,
        ("a",),
        4,
        BESIDE,
    ),
}


@pytest.mark.parametrize(("change", "settings", "nodes", "gpus", "wanted"), ROLLOUTS.values(), ids=ROLLOUTS)
def test_a_new_server_starts_beside_the_old_one_where_it_fits(
    change: dict[str, Any], settings: Settings, nodes: tuple[str, ...], gpus: int, wanted: dict[str, int]
) -> None:
    world = World(changed(INFERENCE, change), settings, NODE_CLAIMS if settings is SETTINGS else None)
    existing(world, *nodes, gpus=gpus)
    converge(world)
    assert strategy(world) == wanted
    before = world.writes
    world.reconcile()
    assert world.writes == before


def test_a_new_server_that_finds_no_place_gets_that_of_the_old_one() -> None:
    """Foreign pods may hold the GPUs that the node offers: only the scheduler knows."""
    world = World(changed(INFERENCE, {"resource.instanceType": None}), BYO, None)
    existing(world, "a", "b")
    converge(world)
    (pod,) = world.all("pods")
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    world.reconcile()
    assert strategy(world) == AFTER
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    converge(world)
    assert strategy(world) == BESIDE


def test_private_runtime_images_and_volumes_for_weights() -> None:
    settings = Settings(
        node_mode="gpu-provisioner", runtime_image="r", pull_secrets=("regcred",), weights_storage_class="nvme"
    )
    for base, kind in ((TUNING, "jobs"), (INFERENCE, "deployments")):
        world = World(base, settings)
        converge(world)
        spec = world.one(kind)["spec"]["template"]["spec"]
        assert spec["imagePullSecrets"] == [{"name": "regcred"}]
        claim = {v["name"]: v for v in spec["volumes"]}["weights"]["ephemeral"]["volumeClaimTemplate"]["spec"]
        assert claim["storageClassName"] == "nvme"
        assert claim["resources"]["requests"]["storage"].endswith("Gi")


def test_spot_nodes_and_mig_nodes_are_tolerated() -> None:
    part = {"resource.instanceType": None, "resource.partition": {"mode": "mig", "profile": "1g.10gb"}}
    world = World(changed(INFERENCE, part), BYO, None)
    existing(world, "a", gpus=8)
    world.one("nodes")["status"]["allocatable"]["nvidia.com/mig-1g.10gb"] = "7"
    converge(world)
    keys = {t["key"] for t in world.one("deployments")["spec"]["template"]["spec"]["tolerations"]}
    assert {"sku", "nvidia.com/gpu", "kubernetes.azure.com/scalesetpriority", "nvidia.com/mig-1g.10gb"} <= keys


FOREIGN = {"metadata": {"name": "served", "generation": 1}, "spec": {"replicas": 1}}


def test_a_server_of_an_earlier_kaito_makes_room() -> None:
    """Its selector cannot be changed, so an apply would be refused for ever."""
    world = World(INFERENCE)
    world.put("deployments", {**FOREIGN, "spec": {**FOREIGN["spec"], "template": OLD_TEMPLATE}})
    uid = world.one("deployments")["metadata"]["uid"]
    converge(world)
    assert world.one("deployments")["metadata"]["uid"] != uid


OLD_TEMPLATE = {"metadata": {"annotations": {"kaito.sh/spec-hash": ""}, "labels": {}}}
FOREIGN_JOB = {"metadata": {"name": "tuned"}, "spec": {}}


def test_what_an_earlier_kaito_has_trained_stands() -> None:
    world = World(TUNING)
    done = {"conditions": [{"type": "Complete", "status": "True"}], "completionTime": "2026-01-01T00:00:00Z"}
    world.put("jobs", {**FOREIGN_JOB, "status": done})
    converge(world)
    assert Counter(kind for kind, _ in world.created)["jobs"] == 1
    assert world.workspace is not None
    status = world.workspace["status"]["tuning"]
    assert (status["finishedAt"], status["adapter"]["image"]) == (
        "2026-01-01T00:00:00Z",
        "registry.example.com/team/adapter:0.0.1",
    )


def test_what_an_earlier_kaito_is_training_goes_on() -> None:
    world = World(TUNING)
    world.put("jobs", {**FOREIGN_JOB, "status": {"active": 1, "startTime": "2026-01-01T00:00:00Z"}})
    world.reconcile()
    assert world.one("jobs")["status"]["active"] == 1
    assert "earlier KAITO is training" in world.condition("TuningSucceeded")["message"]


def test_an_instance_type_is_asked_for_as_its_cloud_spells_it() -> None:
    world = World(changed(INFERENCE, {"resource.instanceType": "standard_nc6s_V3"}), POOLS)
    converge(world)
    (asked, _) = world.one("nodepools")["spec"]["template"]["spec"]["requirements"]
    assert asked["values"] == ["Standard_NC6s_v3"]


@pytest.mark.parametrize("length", [54, 55, 63])
def test_the_names_of_all_services_are_short_enough(length: int) -> None:
    world = World(changed(LARGE, {"metadata.name": "a" * length}))
    converge(world)
    names = [body["metadata"]["name"] for body in world.all("services")]
    assert len(set(names)) == 2
    assert all(len(name) <= 63 for name in names)
    assert world.one("statefulsets")["spec"]["serviceName"] in names


def test_an_evicted_pod_that_was_replaced_is_no_trouble() -> None:
    world = World(INFERENCE)
    converge(world)
    (pod,) = world.all("pods")
    evicted = {
        **pod,
        "metadata": {**pod["metadata"], "name": "zzz"},
        "status": {"phase": "Failed", "reason": "Evicted"},
    }
    world.put("pods", {**evicted, "owner": None})
    world.reconcile()
    assert world.condition("InferenceReady")["status"] == "True"


def test_nodes_of_ones_own_are_shared() -> None:
    world = World(changed(INFERENCE, HALF), BYO, None)
    existing(world, "a", gpus=2)
    world.busy.add("a")
    converge(world)


def test_a_node_that_was_made_for_the_workspace_may_become_ones_own() -> None:
    world = World(changed(INFERENCE, {"resource.instanceType": None}), BYO, None)
    labels = {"app": "phi", LABEL_WORKSPACE: "served", "kaito.sh/workspacenamespace": "default"}
    world.put("nodes", node("mine", labels))
    converge(world)


def test_a_node_that_others_use_is_not_borrowed() -> None:
    world = World(INFERENCE)
    world.put("nodes", node("mine", {"app": "phi", "node.kubernetes.io/instance-type": "Standard_NC6s_v3"}))
    world.busy.add("mine")
    converge(world)
    assert len(world.all("nodeclaims")) == 1


@pytest.mark.parametrize("settings", [SETTINGS, BYO], ids=["made", "byo"])
def test_a_selector_may_be_empty(settings: Settings) -> None:
    """Nodes that are made are found by their owner; of one's own nodes any will do."""
    change = {"resource.labelSelector": {}, **({} if settings is SETTINGS else {"resource.instanceType": None})}
    world = World(changed(INFERENCE, change), settings, NODE_CLAIMS if settings is SETTINGS else None)
    if settings is BYO:
        existing(world, "a")
    converge(world)
    assert len(world.all("nodeclaims")) == (settings is SETTINGS)


def test_karpenter_claims_stand_alone() -> None:
    world = World(annotated(INFERENCE, node_class_name="gpu"), KARPENTER)
    converge(world)
    claim = world.one("nodeclaims")
    assert "karpenter.sh/nodepool" not in claim["metadata"]["labels"]
    assert "resources" not in claim["spec"], "Karpenter waits for ever for a node that offers storage"
    assert claim["spec"]["nodeClassRef"]["name"] == "gpu"
    assert claim["spec"]["expireAfter"] == "Never"


def test_a_pool_asks_for_all_nodes_of_any_node_class() -> None:
    world = World(annotated(LARGE, node_class_name="gpu-large"), POOLS)
    converge(world)
    pool = world.one("nodepools")
    nodes = world.one("statefulsets")["spec"]["replicas"]
    assert nodes > 1
    assert pool["spec"]["replicas"] == nodes == len(world.all("nodeclaims"))
    template = pool["spec"]["template"]
    wanted = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu-large"}
    assert template["spec"]["nodeClassRef"] == wanted
    assert template["spec"]["expireAfter"] == "Never"
    selector = world.one("statefulsets")["spec"]["template"]["spec"]["nodeSelector"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert {r["key"] for r in template["spec"]["requirements"]} == {
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
    }


def test_a_pool_gives_back_nodes_once_the_server_runs_without_them() -> None:
    world = World(LARGE, POOLS)
    converge(world)
    nodes = world.one("nodepools")["spec"]["replicas"]
    assert world.workspace is not None
    for name in ("mine-a", "mine-b", "mine-c", "mine-d"):
        labels = {"app": "phi", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}
        world.put("nodes", node(name, labels))
    world.reconcile()
    assert world.one("nodepools")["spec"]["replicas"] == nodes, "nodes in use are not given back"
    world.objects["nodepools", world.one("nodepools")["metadata"]["name"]]["spec"]["replicas"] = nodes + 1
    converge(world)
    assert world.one("nodepools")["spec"]["replicas"] == nodes


def test_a_pool_goes_with_its_workspace_and_its_claims_are_left_to_it() -> None:
    world = World(INFERENCE, POOLS)
    converge(world)
    assert world.workspace is not None
    world.workspace["metadata"]["deletionTimestamp"] = "2026-07-01T13:00:00Z"
    world.reconcile()
    assert world.workspace is None
    assert not world.all("nodepools")
    assert not world.all("nodeclaims")


STUCK: dict[str, tuple[dict[str, Any], timedelta, str, str]] = {
    "class not ready": (
        {"conditions": [{"type": "NodeClassReady", "status": "False", "reason": "NodeClassNotReady", "message": "no"}]},
        timedelta(),
        "NodeClassNotReady",
        "node-class-name",
    ),
    "gate off": ({}, timedelta(seconds=200), "ProvisionerNotRunning", "StaticCapacity=true"),
    "young": ({}, timedelta(seconds=20), "NodeClaimNotReady", "being asked for"),
}


@pytest.mark.parametrize(("status", "later", "reason", "words"), STUCK.values(), ids=STUCK)
def test_a_pool_that_brings_nothing_is_explained(
    status: dict[str, Any], later: timedelta, reason: str, words: str
) -> None:
    world = World(INFERENCE, POOLS)
    world.reconcile()
    world.one("nodepools")["status"] = status
    world.now += later
    world.reconcile()
    told = world.condition("NodeClaimReady")
    assert told["reason"] == reason == world.condition("WorkspaceReady")["reason"]
    assert words in told["message"]


@pytest.mark.parametrize(("family", "name"), [("ubuntu", "image-family-ubuntu"), ("azurelinux", "default")])
def test_an_image_family_chooses_the_class_of_that_name_where_there_is_one(family: str, name: str) -> None:
    known = Settings(node_mode="karpenter", runtime_image="r", node_classes=("default", "image-family-ubuntu"))
    world = World(annotated(INFERENCE, node_image_family=family), known)
    converge(world)
    assert world.one("nodeclaims")["spec"]["nodeClassRef"]["name"] == name


def test_a_load_balancer_is_asked_for_by_annotation() -> None:
    world = World(annotated(INFERENCE, enablelb="True"))
    converge(world)
    spec = world.one("services")["spec"]
    assert spec["type"] == "LoadBalancer"
    assert [port["port"] for port in spec["ports"]] == [80]


def test_a_node_that_vanishes_is_replaced() -> None:
    world = World(INFERENCE)
    converge(world)
    for kind in ("nodes", "nodeclaims", "pods"):
        for body in world.all(kind):
            del world.objects[kind, body["metadata"]["name"]]
    world.one("deployments").pop("status")
    world.reconcile()
    assert world.condition("WorkspaceReady")["status"] == "False"
    converge(world)
    assert Counter(kind for kind, _ in world.created)["nodeclaims"] == 2


def test_pods_run_with_least_rights() -> None:
    for base, kind in ((TUNING, "jobs"), (INFERENCE, "deployments")):
        world = World(base)
        converge(world)
        spec = world.one(kind)["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*spec["initContainers"], *spec["containers"]):
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert rights["allowPrivilegeEscalation"] is False


def test_the_push_secret_is_seen_by_publish_alone() -> None:
    world = World(TUNING)
    converge(world)
    spec = world.one("jobs")["spec"]["template"]["spec"]
    seen = [c["name"] for c in (*spec["initContainers"], *spec["containers"]) if "push-secret" in str(c)]
    assert seen == ["publish"]


@pytest.mark.parametrize(("base", "kind"), [(TUNING, "jobs"), (INFERENCE, "deployments")], ids=["tuning", "inference"])
def test_weights_of_the_node_are_mounted_where_they_are_read(base: dict[str, Any], kind: str) -> None:
    world = World(annotated(base, use_local_weights="true"))
    converge(world)
    spec = world.one(kind)["spec"]["template"]["spec"]
    path = "/opt/kaito/models/tiny-phi-3"
    assert {v["name"]: v for v in spec["volumes"]}["local-weights"]["hostPath"]["path"] == path
    seen = {
        container["name"]: mount
        for container in (*spec["initContainers"], *spec["containers"])
        for mount in container["volumeMounts"]
        if mount["name"] == "local-weights"
    }
    assert set(seen) == {"model", "tune" if base is TUNING else "serve"}
    assert all(mount["readOnly"] and mount["mountPath"] == path for mount in seen.values())
    model = next(c for c in spec["initContainers"] if c["name"] == "model")
    source = next(e["value"] for e in model["env"] if e["name"] == "KAITO_MODEL")
    assert yaml.safe_load(source)["source"] == {"path": path}
