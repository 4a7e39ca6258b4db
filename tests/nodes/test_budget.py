"""A drain that a real PodDisruptionBudget holds up, and what ends it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kaito.kube.client import Client
from kaito.kube.resources import NODE_CLAIMS, PODS, untyped
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import parse_scenario
from kaito.nodes.provisioner import ProvisionerConfig
from tests.nodes.world import World, eventually, provisioning

BUDGETS = untyped("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True)
LABELS = {"app": "served"}
QUICK = {"create": 0.05, "node": 0.01, "ready": 0.01, "gpus": 0.01, "delete": 0.05}
BRISK = ProvisionerConfig(list_every=timedelta(seconds=0.2))


def provider(client: Client) -> SimulatedProvider:
    weather = parse_scenario({"delays": QUICK, "pollSeconds": 0.05}, "test")
    return SimulatedProvider(client, SimulatedCloud(weather))


async def occupy(world: World, node: str) -> None:
    """A ready pod on the node, and a budget that lets none of its kind go."""
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": 1}
    await world.client.create(PODS, {"metadata": {"name": "server", "labels": LABELS}, "spec": spec}, "default")
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await world.client.patch(PODS, "server", {"status": ready}, "default", subresource="status")
    budget = {"metadata": {"name": "keep"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}}}
    await world.client.create(BUDGETS, budget, "default")


async def held_up(world: World) -> None:
    """The drain has asked and was refused, and says so."""

    async def told() -> bool:
        said = await world.events("DrainBlocked")
        return any("would violate the pod's disruption budget" in message for message in said)

    await eventually(told)
    assert await world.client.find(PODS, "server", "default") is not None
    assert await world.client.find(NODE_CLAIMS, "ws1") is not None


async def deleted_while_occupied(world: World, **changes: Any) -> None:
    await world.claim("ws1", **changes)
    await world.until("ws1", "Ready", "True")
    await occupy(world, "ws1")
    await world.client.delete(NODE_CLAIMS, "ws1")


async def test_a_budget_holds_the_machine_until_it_is_loosened(world: World) -> None:
    made = provider(world.client)
    async with provisioning(world.client, made, BRISK):
        await deleted_while_occupied(world)
        await held_up(world)
        assert made.cloud.calls["delete"] == 0
        await world.client.patch(BUDGETS, "keep", {"spec": {"minAvailable": 0}}, "default")
        await world.until_gone("ws1", NODE_CLAIMS)
        assert await world.client.find(PODS, "server", "default") is None
    assert made.cloud.machines() == []


@pytest.mark.slow
async def test_the_end_of_patience_is_stronger_than_a_budget(world: World) -> None:
    made = provider(world.client)
    async with provisioning(world.client, made, BRISK):
        await deleted_while_occupied(world, terminationGracePeriod="4s")
        await held_up(world)
        await world.until_gone("ws1", NODE_CLAIMS)
    assert made.cloud.machines() == []
