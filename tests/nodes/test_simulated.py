"""The simulated cloud: calm weather, a bad week of faults, and scenario files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kaito.kube.resources import NODE_CLAIMS, NODES
from kaito.nodes.errors import ConfigError
from kaito.nodes.providers.simulated.cloud import SimulatedCloud
from kaito.nodes.providers.simulated.provider import SimulatedProvider
from kaito.nodes.providers.simulated.scenario import CALM, Scenario, load_scenario, parse_scenario
from kaito.nodes.provisioner import ProvisionerConfig
from tests.nodes.world import World, eventually, provisioning

QUICK = {"create": 0.05, "node": 0.01, "ready": 0.01, "gpus": 0.01, "delete": 0.05}


def scenario(*faults: dict[str, Any]) -> Scenario:
    return parse_scenario({"delays": QUICK, "pollSeconds": 0.05, "faults": list(faults)}, "test")


async def test_a_calm_day_costs_one_create_and_one_delete_each(world: World) -> None:
    cloud = SimulatedCloud(scenario())
    names = [f"ws{number}" for number in range(20)]
    async with provisioning(world.client, SimulatedProvider(world.client, cloud)):
        for name in names:
            await world.claim(name)
        for name in names:
            await world.until(name, "Ready", "True")
        for name in names:
            await world.client.delete(NODE_CLAIMS, name)
        for name in names:
            await world.until_gone(name, NODE_CLAIMS)
    assert cloud.calls["create"] == 20 and cloud.calls["delete"] == 20 and cloud.calls["get"] == 0
    assert (await world.client.list(NODES)).items == []


FAULTS: list[Any] = [
    pytest.param("quota", "Launched", "SubscriptionQuotaReached", "limit 24", id="quota"),
    pytest.param("no-capacity", "Launched", "ZonalAllocationFailed", "free", id="no capacity"),
    pytest.param("not-offered", "Launched", "SkuNotAvailable", "region", id="not offered"),
    pytest.param("invalid", "Launched", "InvalidSpec", "refuses", id="invalid"),
    pytest.param("busy", "Launched", "CloudBusy", "under way", id="busy"),
    pytest.param("throttled", "Launched", "Throttled", "throttles", id="throttled"),
    pytest.param("unauthorized", "Launched", "AuthorizationFailed", "may not", id="unauthorized"),
    pytest.param("fails-late", "Launched", "ZonalAllocationFailed", "no machine", id="fails late"),
    pytest.param("list-fails", "Launched", "ListFailed", "cannot be listed", id="list fails"),
    pytest.param("stuck", "Launched", "InstanceCreating", "being created", id="stuck"),
    pytest.param("never-registers", "Registered", "NodeNotFound", "not joined", id="never registers"),
    pytest.param("never-ready", "Initialized", "NodeNotReady", "not ready", id="never ready"),
]


@pytest.mark.parametrize(("fault", "condition", "reason", "words"), FAULTS)
async def test_each_fault_is_named_on_the_claim(
    world: World, fault: str, condition: str, reason: str, words: str
) -> None:
    cloud = SimulatedCloud(scenario({"fault": fault}))
    async with provisioning(world.client, SimulatedProvider(world.client, cloud)):
        await world.claim("ws1")
        assert words in await world.until_reason("ws1", condition, reason)


async def test_gpus_that_never_come(world: World) -> None:
    cloud = SimulatedCloud(scenario({"fault": "no-gpus"}))
    async with provisioning(world.client, SimulatedProvider(world.client, cloud)):
        await world.claim("ws1", resources={"requests": {"nvidia.com/gpu": "1"}})
        assert "device plugin" in await world.until_reason("ws1", "Initialized", "ResourceNotRegistered")


@pytest.mark.parametrize("fault", ["dies", "spot-reclaim"])
async def test_a_machine_that_goes_takes_its_claim_along(world: World, fault: str) -> None:
    cloud = SimulatedCloud(scenario({"fault": fault, "after": 0.2, "lasts": 0.2}))
    async with provisioning(
        world.client, SimulatedProvider(world.client, cloud), ProvisionerConfig(list_every=timedelta(seconds=0.1))
    ):
        await world.claim("ws1")
        await world.until_gone("ws1", NODE_CLAIMS)
        await world.until_gone("ws1", NODES)


async def test_a_fault_that_strikes_once_is_overcome(world: World) -> None:
    cloud = SimulatedCloud(scenario({"fault": "busy", "times": 1}))
    async with provisioning(world.client, SimulatedProvider(world.client, cloud)):
        await world.claim("ws1")
        await world.until("ws1", "Ready", "True")
    assert cloud.calls["create"] == 2


async def test_a_cloud_of_a_former_process_is_found_again(world: World) -> None:
    async with provisioning(world.client, SimulatedProvider(world.client, SimulatedCloud(scenario()))):
        await world.claim("ws1")
        await world.until("ws1", "Ready", "True")
    cloud = SimulatedCloud(scenario())
    async with provisioning(world.client, SimulatedProvider(world.client, cloud)):

        async def known() -> bool:
            return cloud.machine("ws1") is not None

        await eventually(known)
        await world.client.delete(NODE_CLAIMS, "ws1")
        await world.until_gone("ws1", NODE_CLAIMS)
    assert cloud.calls["create"] == 0 and cloud.machines() == []


def test_the_same_seed_gives_the_same_delays() -> None:
    one, same, other = Scenario(seed=1), Scenario(seed=1), Scenario(seed=2)
    assert one.draw("ws1", (0, 9), "node") == same.draw("ws1", (0, 9), "node")
    assert one.draw("ws1", (0, 9), "node") != other.draw("ws1", (0, 9), "node")
    assert CALM.draw("ws1", 3.0, "node") == 3.0


BAD: list[Any] = [
    pytest.param("faults: [{fault: qouta}]", "did you mean quota", id="unknown fault"),
    pytest.param("sed: 1", "sed", id="unknown field"),
    pytest.param("delays: {node: [5, 1]}", "delays.node", id="ends reversed"),
    pytest.param("a: [", "not YAML", id="not YAML"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_wrong_scenario_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "week.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_scenario(path)


def test_a_scenario_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scenario(tmp_path / "none.yaml")
