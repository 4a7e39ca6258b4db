"""The provisioner as a process: what is missing is said, one of two leads, probes answer, late kinds are taken up."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
from datetime import timedelta

import aiohttp

from kaito.api.crds import machine_crd, node_claim_crd
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.kube.resources import CRDS, LEASES, MACHINES
from kaito.nodes import provisioner as process
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import parse_scenario
from kaito.nodes.provisioner import ProvisionerConfig
from kaito.nodes.serving import Probes, serve_probes
from tests.nodes.world import World, eventually, provisioning, stopped
from tests.support.cluster import Cluster

QUICK = {"create": 0.05, "node": 0.01, "ready": 0.01, "gpus": 0.01, "delete": 0.05}

WITHOUT_SDK = textwrap.dedent(
    """
    import importlib.abc, sys

    class Blocked(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "azure" or name.startswith(("azure.", "msal")):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return None

    sys.meta_path.insert(0, Blocked())
    from kaito.cli.main import main
    sys.argv = ["kaito", "provisioner", "--provider", "azure", "--kubeconfig", sys.argv[1]]
    main()
    """
)


def test_without_its_extra_the_azure_provider_says_what_to_install(cluster: Cluster) -> None:
    environment = {"ARM_SUBSCRIPTION_ID": "s", "ARM_RESOURCE_GROUP": "g", "AZURE_CLUSTER_NAME": "c"}
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_SDK, str(cluster.kubeconfig)],
        env={**cluster.environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = " ".join(ended.stderr.split())
    assert ended.returncode != 0
    assert "pip install 'kaito[azure]'" in said, said
    assert "Traceback" not in said, said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_probes_answer_and_metrics_are_served() -> None:
    probes, port = Probes(), free_port()
    async with serve_probes(probes, "127.0.0.1", health_port=port, metrics_port=port), aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}"
        async with http.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        async with http.get(f"{url}/readyz") as answer:
            assert answer.status == 503 and "caches" in await answer.text()
        probes.ready = True
        async with http.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        async with http.get(f"{url}/metrics") as answer:
            text = await answer.text()
        for name in ("karpenter_nodeclaims_created_total", "karpenter_cloudprovider_duration_seconds"):
            assert f"# TYPE {name}" in text, name


async def test_of_two_provisioners_one_leads_and_the_other_takes_over(cluster: Cluster, world: World) -> None:
    config = ProvisionerConfig(kubeconfig=cluster.kubeconfig, provider="local", leader_election=True)
    first = asyncio.ensure_future(process.run_provisioner(config))
    second: asyncio.Task[None] | None = None
    try:
        await eventually(lambda: holder(world))
        second = asyncio.ensure_future(process.run_provisioner(config))
        await world.claim("ws1")
        await world.until("ws1", "Launched", "True")
        leader = await holder(world)
        await stopped(first)
        await world.claim("ws2")
        await world.until("ws2", "Launched", "True")
        assert await holder(world) != leader
    finally:
        for task in (first, second):
            if task is not None:
                await stopped(task)


async def holder(world: World) -> str:
    lease = await world.client.find(LEASES, "kaito-provisioner", "default")
    return lease.spec.holderIdentity if lease is not None else ""


async def test_a_kind_that_is_served_later_is_taken_up(cluster: Cluster) -> None:
    weather = parse_scenario({"delays": QUICK, "pollSeconds": 0.05}, "test")
    async with Client.connect(cluster.kubeconfig, field_manager="test") as client:
        world = World(client)
        await client.create(CRDS, node_claim_crd())
        await eventually(lambda: is_served(world))
        config = ProvisionerConfig(discover_every=timedelta(seconds=0.1))
        cloud = SimulatedCloud(weather)
        async with provisioning(client, SimulatedProvider(client, cloud), config):
            await world.claim("ws1")
            await world.until("ws1", "Ready", "True")
            await client.create(CRDS, machine_crd())
            await eventually(lambda: accepts_machine(world))
            await world.until("ws2", "Ready", "True", MACHINES)
            await world.until("ws1", "Ready", "True")
    assert cloud.calls["create"] == 2


async def is_served(world: World) -> bool:
    crd = await world.client.get(CRDS, "nodeclaims.karpenter.sh")
    return any(c["type"] == "Established" and c["status"] == "True" for c in crd.status.get("conditions", []))


async def accepts_machine(world: World) -> bool:
    try:
        await world.claim("ws2", MACHINES)
    except KubeError:
        return False
    return True
