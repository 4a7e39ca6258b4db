"""The provider of one machine, end to end against the embedded API server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kaito.kube.client import Client
from kaito.kube.resources import MACHINES, NODE_CLAIMS, NODES, Resource
from kaito.nodes.providers.local.machine import Machine, read_machine
from kaito.nodes.providers.local.provider import LocalProvider
from tests.nodes.world import RAW_PODS, World, eventually, kubelet, provisioning

HERE = Machine("here", cpus=2, memory_bytes=23 * 2**30, architecture="amd64", os="linux")


@pytest.mark.parametrize("resource", [NODE_CLAIMS, MACHINES], ids=["NodeClaim", "Machine"])
async def test_the_whole_life_of_a_claim(world: World, resource: Resource[object]) -> None:
    client = world.client
    async with provisioning(client, LocalProvider(client, HERE)), kubelet(client):
        await world.claim("ws1", resource)
        await world.until("ws1", "Ready", "True", resource)
        node = await world.node("ws1")
        assert node["spec"]["providerID"] == "local://here/ws1"
        assert {"key": "sku", "value": "gpu", "effect": "NoSchedule"} in node["spec"]["taints"]
        assert node["metadata"]["annotations"]["kaito.sh/backed-by"] == (
            "this machine: 2 CPU cores, 23 GiB memory, no GPU"
        )
        capacity = json.loads(node["metadata"]["annotations"]["kaito.sh/capacity"])
        assert capacity == {"cpu": "2", "memory": "24117248Ki", "pods": "110", "nvidia.com/gpu": "1"}
        expected = {
            "kaito.sh/workspace": "phi",
            "kaito.sh/node-provider": "local",
            "node.kubernetes.io/instance-type": "Standard_NC6s_v3",
            "kubernetes.io/hostname": "ws1",
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "karpenter.sh/registered": "true",
            "karpenter.sh/initialized": "true",
        }
        assert expected.items() <= node["metadata"]["labels"].items()
        assert node["metadata"]["ownerReferences"][0]["kind"] == resource.kind
        claim = await client.get(resource, "ws1")
        assert claim.status.nodeName == "ws1"  # type: ignore[attr-defined]
        assert claim.status.capacity["nvidia.com/gpu"] == "1"  # type: ignore[attr-defined]

        await client.delete(resource, "ws1")
        await world.until_gone("ws1", resource)
        assert await client.find(NODES, "ws1") is None


async def test_an_unknown_type_names_the_nearest(world: World) -> None:
    async with provisioning(world.client, LocalProvider(world.client, HERE)):
        await world.claim("ws1", instance_type="Standard_NC6s_v33")
        message = await world.until_reason("ws1", "Launched", "UnknownInstanceType")
        assert "Standard_NC6s_v3" in message
        assert (await world.conditions("ws1"))["Ready"][:2] == ("False", "UnhealthyDependents")
        await world.client.delete(NODE_CLAIMS, "ws1")
        await world.until_gone("ws1", NODE_CLAIMS)


async def test_pods_are_evicted_before_the_node_goes(world: World) -> None:
    client = world.client
    container = {"name": "c", "image": "x"}
    body = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "ws1", "containers": [container], "terminationGracePeriodSeconds": 30},
    }
    async with provisioning(client, LocalProvider(client, HERE)), kubelet(client):
        await world.claim("ws1")
        await world.until("ws1", "Ready", "True")
        await client.create(RAW_PODS, body, "default")
        await client.delete(NODE_CLAIMS, "ws1")

        async def evicted() -> bool:
            pod = await client.find(RAW_PODS, "p", "default")
            return pod is not None and "deletionTimestamp" in pod["metadata"]

        await eventually(evicted)
        assert await client.find(NODES, "ws1") is not None, "the node stays while its pod terminates"
        await client.delete(RAW_PODS, "p", "default", grace_period=0)
        await world.until_gone("ws1", NODE_CLAIMS)
        await world.until_gone("ws1", NODES)


async def test_a_node_deleted_by_hand_takes_its_claim_along(world: World) -> None:
    client = world.client
    async with provisioning(client, LocalProvider(client, HERE)), kubelet(client):
        await world.claim("ws1")
        await world.until("ws1", "Ready", "True")
        await client.delete(NODES, "ws1")
        await world.until_gone("ws1", NODE_CLAIMS)
        await world.until_gone("ws1", NODES)


async def test_steady_state_writes_nothing(world: World) -> None:
    client = world.client
    async with provisioning(client, LocalProvider(client, HERE)), kubelet(client):
        before = dict(client.calls)
        await world.claim("ws1")
        await world.until("ws1", "Ready", "True")
        writes = {verb: client.calls[verb] - before.get(verb, 0) for verb in ("create", "patch", "apply")}
        # The claim and its Node are created; finalizer, initialized label and the kubelet's status are patches; two
        # or three states of the claim are applied.
        assert writes["create"] == 2 and writes["patch"] <= 4 and writes["apply"] <= 3, writes
        settled = sum(client.calls[verb] for verb in ("create", "patch", "apply", "delete"))
        await client.patch(NODES, "ws1", {"metadata": {"annotations": {"somebody": "else"}}})
        await asyncio.sleep(0.3)
        assert sum(client.calls[verb] for verb in ("create", "patch", "apply", "delete")) == settled + 1


async def test_a_claim_of_two_kinds_and_one_name(world: World) -> None:
    client = world.client
    async with provisioning(client, LocalProvider(client, HERE)), kubelet(client):
        await world.claim("ws1")
        await world.until("ws1", "Ready", "True")
        await world.claim("ws1", MACHINES)
        message = await world.until_reason("ws1", "MachineLaunched", "NameTaken", MACHINES)
        assert "NodeClaim/ws1" in message
        await client.delete(MACHINES, "ws1")
        await world.until_gone("ws1", MACHINES)
        assert (await world.conditions("ws1"))["Ready"][0] == "True"


async def test_claims_of_others_are_left_alone(world: World) -> None:
    client = world.client
    foreign = {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"}
    async with provisioning(client, LocalProvider(client, HERE)):
        body = {"metadata": {"name": "theirs"}, "spec": {"requirements": [], "nodeClassRef": foreign}}
        await client.create(NODE_CLAIMS, body)
        await world.claim("ws1")
        await world.until("ws1", "Registered", "True")
        assert await world.conditions("theirs") == {}
        assert (await client.get(NODE_CLAIMS, "theirs")).metadata.finalizers == []


async def test_a_node_that_somebody_else_named_so(world: World) -> None:
    client: Client = world.client
    await client.create(NODES, {"metadata": {"name": "ws1"}, "spec": {"providerID": "kind://x"}})
    async with provisioning(client, LocalProvider(client, HERE)):
        await world.claim("ws1")
        assert "did not make" in await world.until_reason("ws1", "Launched", "NameTaken")
        await client.delete(NODES, "ws1")
        await world.until("ws1", "Registered", "True")


def test_this_machine(tmp_path: Path) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA A10\nIRQ: 1\n")
    with_gpu = read_machine(tmp_path)
    assert with_gpu.gpus == ("NVIDIA A10",)
    assert with_gpu.in_words.endswith("1 x NVIDIA A10")
    assert with_gpu.cpus >= 1 and with_gpu.memory_bytes > 2**28
    assert read_machine(tmp_path / "none").in_words.endswith("no GPU")
