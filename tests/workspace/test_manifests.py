"""Manifests as KAITO v0.3 and v0.12 document them: each is accepted by the API server, and reconciled to the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api.crds import V1ALPHA1_INSTANCE_TYPE
from kaito.catalog.instances import find_instance_type
from kaito.catalog.models import base_tuning_config
from kaito.kube.admission import WEBHOOKS
from kaito.kube.resources import NODE_CLAIMS
from kaito.workspace.admission import CONFIGURATION, AdmissionConfig, run_admission
from kaito.workspace.settings import Settings
from tests.workspace.builders import SETTINGS
from tests.workspace.conftest import Stage
from tests.workspace.node_side import CONFIG_MAPS, SECRETS, WORKSPACES, until
from tests.workspace.world import World, node

FOLDER = Path(__file__).parent / "manifests"
BYO = Settings(node_mode="byo", runtime_image="kaito/runtime:test")
CONFIGS = {
    "my-training": {"training_config.yaml": base_tuning_config("qlora")},
    "my-engine": {"inference_config.yaml": "max_probe_steps: 6\nvllm:\n  gpu-memory-utilization: 0.95\n"},
}
DOCKER = {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}}
SECRET_BODIES: dict[str, dict[str, Any]] = {"registry": DOCKER, "hf-token": {"data": {"HF_TOKEN": "aGY="}}}


def read(version: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / f"{version}.yaml").read_text()))


def named(version: str) -> list[Any]:
    return [pytest.param(body, id=f"{version} {body['metadata']['name']}") for body in read(version)]


def stored(body: dict[str, Any]) -> dict[str, Any]:
    """As an API server keeps it: with identity, and the defaults of its version."""
    metadata = {**body["metadata"], "namespace": "default", "uid": "u-1", "generation": 1, "resourceVersion": "1"}
    resource = {"count": 1, **body["resource"]}
    if body["apiVersion"].endswith("v1alpha1"):
        resource.setdefault("instanceType", V1ALPHA1_INSTANCE_TYPE)
    return {**body, "metadata": metadata, "resource": resource}


def furnished(body: dict[str, Any], settings: Settings) -> World:
    """A world with all that the manifests name."""
    world = World(stored(body), settings, NODE_CLAIMS if settings is SETTINGS else None)
    for name, data in CONFIGS.items():
        world.put("configmaps", {"metadata": {"name": name}, "data": data})
    for name, secret in SECRET_BODIES.items():
        world.put("secrets", {"metadata": {"name": name}, **secret})
    return world


def converge(world: World) -> None:
    world.settle(rounds=200)
    told = world.condition("WorkspaceReady")
    assert told["status"] == "True", told


def pod_of(world: World) -> dict[str, Any]:
    """The spec of the pods that serve, or of the Job where nothing is served."""
    servers = [*world.all("deployments"), *world.all("statefulsets")]
    assert len(servers) == 1
    spec: dict[str, Any] = servers[0]["spec"]["template"]["spec"]
    return spec


TOO_LARGE = ("llama-2-13b", "llama-2-13b-chat")
"""KAITO v0.3 cut these across Volta GPUs of several nodes with torchrun, which neither of our engines can do."""
REST = [body for body in (*named("v0.3"), *named("v0.12")) if body.values[0]["metadata"]["name"] not in TOO_LARGE]


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_cannot_work_any_more_says_so(name: str) -> None:
    world = furnished(of("v0.3", name), SETTINGS)
    world.settle()
    told = world.condition("WorkspaceReady")
    assert told["reason"] == "InsufficientGPUMemory"
    assert "uses one GPU" in told["message"]
    assert "Choose an instance type" in told["message"]


@pytest.mark.parametrize("body", REST)
def test_it_is_reconciled_to_the_end(body: dict[str, Any]) -> None:
    world = furnished(body, SETTINGS)
    instance = find_instance_type(stored(body)["resource"]["instanceType"])
    assert instance is not None
    world.gpus = instance.gpu_count
    converge(world)
    assert world.workspace is not None
    nodes = world.workspace["status"]["targetNodeCount"]
    assert len(world.all("nodeclaims")) == nodes
    assert bool(world.all("statefulsets")) == (nodes > 1)
    assert bool(world.all("jobs")) == ("tuning" in body)
    ports = {s["metadata"]["name"]: s["spec"] for s in world.all("services")}[body["metadata"]["name"]]["ports"]
    assert (ports[0]["port"], ports[0]["targetPort"]) == (80, 5000)
    if "template" not in body.get("inference", {}):
        limits = pod_of(world)["containers"][0]["resources"]["limits"]
        assert limits == {"nvidia.com/gpu": str(instance.gpu_count)}
    claim = world.all("nodeclaims")[0]
    wanted = {r["key"]: r["values"] for r in claim["spec"]["requirements"]}
    assert wanted["node.kubernetes.io/instance-type"] == [stored(body)["resource"]["instanceType"]]
    assert body["resource"]["labelSelector"]["matchLabels"].items() <= claim["metadata"]["labels"].items()


@pytest.mark.parametrize("body", named("byo"))
def test_it_is_reconciled_on_existing_nodes(body: dict[str, Any]) -> None:
    world = furnished(body, BYO)
    gfd = {"nvidia.com/gpu.product": "A100-SXM4-80GB", "nvidia.com/gpu.count": "4", "nvidia.com/gpu.memory": "81920"}
    made = node("mine", {"apps": "existing", **gfd}, gpus=4)
    made["status"]["allocatable"]["nvidia.com/mig-2g.20gb"] = "3"
    world.put("nodes", made)
    converge(world)
    assert not world.all("nodeclaims")
    asked = pod_of(world)["containers"][0]["resources"]["limits"]
    part = body["resource"].get("partition", {})
    profile, count = part.get("profile"), part.get("count", 4)
    assert asked == ({f"nvidia.com/mig-{profile}": "1"} if profile else {"nvidia.com/gpu": str(count)})


def of(version: str, name: str) -> dict[str, Any]:
    return next(body for body in read(version) if body["metadata"]["name"] == name)


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


def served(version: str, name: str) -> tuple[World, dict[str, Any], dict[str, dict[str, Any]]]:
    """The world, the serving pod's spec, and its init containers by name."""
    world = furnished(of(version, name), SETTINGS)
    instance = find_instance_type(stored(of(version, name))["resource"]["instanceType"])
    world.gpus = instance.gpu_count if instance else 1
    converge(world)
    spec = pod_of(world)
    return world, spec, {c["name"]: c for c in spec["initContainers"]}


def test_private_weights_come_from_their_image() -> None:
    _, spec, init = served("v0.3", "llama-2-7b-chat")
    source = yaml.safe_load(environment(init["model"])["KAITO_MODEL"])["source"]
    assert source == {"image": "registry.example.com/llama-2-7b-chat:0.0.1"}
    assert {"name": "registry"} in spec["imagePullSecrets"]


def test_adapters_are_fetched_and_named_with_their_strength() -> None:
    _, spec, init = served("v0.3", "phi-3-adapter")
    assert environment(init["adapter-second"])["KAITO_ADAPTER_IMAGE"] == "registry.example.com/adapters/second:0.0.1"
    given = yaml.safe_load(environment(spec["containers"][0])["KAITO_ADAPTERS"])
    assert given == [{"name": "phi-3-adapter", "strength": "1.0"}, {"name": "second", "strength": "0.5"}]
    _, spec, init = served("v0.12", "with-adapters")
    assert "KAITO_ADAPTER_SOURCE_DIR" in environment(init["adapter-from-volume"])
    claims = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert claims == ["adapters"]


def test_a_gated_model_gets_its_token() -> None:
    _, _, init = served("v0.12", "llama-3-1-8b-instruct")
    token = {"secretKeyRef": {"name": "hf-token", "key": "HF_TOKEN"}}
    assert environment(init["model"])["HF_TOKEN"] == token


def test_training_from_volumes_and_from_an_image() -> None:
    world = furnished(of("v0.12", "tuning-volumes"), SETTINGS)
    converge(world)
    volumes = {v["name"]: v for v in world.one("jobs")["spec"]["template"]["spec"]["volumes"]}
    assert volumes["data-source"]["persistentVolumeClaim"]["claimName"] == "pvc-input"
    assert volumes["results"]["persistentVolumeClaim"]["claimName"] == "pvc-output"
    world = furnished(of("v0.3", "tuning-from-image"), SETTINGS)
    converge(world)
    data = world.one("jobs")["spec"]["template"]["spec"]["initContainers"][0]
    assert environment(data)["KAITO_DATA_IMAGE"] == "registry.example.com/data:1"


def test_the_engine_reads_what_the_manifest_says() -> None:
    world, _, _ = served("v0.12", "custom-config")
    config = yaml.safe_load(world.objects["configmaps", "custom-config-config"]["data"]["inference_config.yaml"])
    assert config["max_probe_steps"] == 6
    assert config["vllm"]["gpu-memory-utilization"] == 0.95
    world, _, _ = served("v0.12", "throughput")
    config = yaml.safe_load(world.objects["configmaps", "throughput-config"]["data"]["inference_config.yaml"])
    assert config["vllm"]["performance-mode"] == "throughput"
    _, spec, _ = served("v0.12", "transformers-runtime")
    assert environment(spec["containers"][0])["KAITO_ENGINE"] == "transformers"


@pytest.mark.parametrize("name", ["public-service", "load-balanced"])
def test_a_load_balancer_has_http_alone(name: str) -> None:
    world, _, _ = served("v0.3" if name == "public-service" else "v0.12", name)
    spec = world.one("services")["spec"]
    assert (spec["type"], [p["port"] for p in spec["ports"]]) == ("LoadBalancer", [80])


@pytest.mark.parametrize(("version", "mode"), [("v0.3", "gpu-provisioner"), ("v0.12", "karpenter"), ("byo", "byo")])
async def test_an_api_server_with_the_webhook_takes_them_all(stage: Stage, version: str, mode: str) -> None:
    for name, data in CONFIGS.items():
        await stage.user.create(CONFIG_MAPS, {"metadata": {"name": name}, "data": data}, "default")
    for name, secret in SECRET_BODIES.items():
        await stage.user.create(SECRETS, {"metadata": {"name": name}, **secret}, "default")
    labels = {"nvidia.com/gpu.product": "A100", "nvidia.com/gpu.count": "4", "nvidia.com/gpu.memory": "81920"}
    await stage.side.make_node("mine", {"apps": "existing", **labels}, gpus=4)
    settings = Settings(node_mode=mode, runtime_image="r")  # type: ignore[arg-type] # a table's text
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    where = AdmissionConfig("127.0.0.1", 0, "", "default")
    stage.play(lambda: run_admission(stage.user, settings, where, listening=listening.set_result))
    await listening
    await until(lambda: stage.user.find(WEBHOOKS, CONFIGURATION))
    bodies = read(version)
    for body in bodies:
        await stage.apply({**body, "metadata": {**body["metadata"], "namespace": "default"}})
    kept = await stage.side.list(WORKSPACES, "default")
    assert {k["metadata"]["name"] for k in kept} == {b["metadata"]["name"] for b in bodies}
