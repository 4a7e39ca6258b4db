"""Karpenter's metrics after a claim has lived and died on the simulated cloud."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client import REGISTRY

from kaito.kube.resources import MACHINES
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import parse_scenario
from kaito.nodes.provisioner import ProvisionerConfig
from tests.nodes.world import World, provisioning

QUICK = {"create": 0.05, "node": 0.01, "ready": 0.01, "gpus": 0.01, "delete": 0.05}
POOL = {"nodepool": ""}
MACHINE = {"provisioner": "default"}
CREATE = {"controller": "provisioner", "method": "Create", "provider": "simulated"}

ONCE: list[tuple[str, dict[str, str]]] = [
    ("karpenter_nodeclaims_created_total", POOL),
    ("karpenter_nodeclaims_terminated_total", POOL),
    ("karpenter_nodeclaims_termination_duration_seconds_count", {}),
    ("karpenter_nodeclaims_instance_termination_duration_seconds_count", {}),
    ("karpenter_nodes_created_total", POOL),
    ("karpenter_nodes_terminated_total", POOL),
    ("karpenter_nodes_termination_duration_seconds_count", {}),
    ("karpenter_nodes_drained_total", POOL),
    *((f"karpenter_machines_{step}_total", MACHINE) for step in ("created", "launched", "registered", "initialized")),
    ("karpenter_machines_terminated_total", MACHINE),
    ("karpenter_cloudprovider_errors_total", {**CREATE, "error": "Busy"}),
]


def sample(name: str, labels: dict[str, str]) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_life_is_counted_once(world: World) -> None:
    """The claim is refused once before it is met, so that an error is counted too."""
    before = {name: sample(name, labels) for name, labels in ONCE}
    called = sample("karpenter_cloudprovider_duration_seconds_count", CREATE)
    weather = parse_scenario({"delays": QUICK, "pollSeconds": 0.05, "faults": [{"fault": "busy", "times": 1}]}, "test")
    provider = SimulatedProvider(world.client, SimulatedCloud(weather))
    async with provisioning(world.client, provider, ProvisionerConfig(list_every=timedelta(seconds=0.2))):
        await world.claim("ws1", MACHINES)
        await world.until("ws1", "Ready", "True", MACHINES)
        await world.client.delete(MACHINES, "ws1")
        await world.until_gone("ws1", MACHINES)
    raised = {name: sample(name, labels) - before[name] for name, labels in ONCE}
    assert raised == dict.fromkeys(before, 1.0)
    assert sample("karpenter_cloudprovider_duration_seconds_count", CREATE) - called == 2
    assert any(family.name == "karpenter_build_info" for family in REGISTRY.collect())
