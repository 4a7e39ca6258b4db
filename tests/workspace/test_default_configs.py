"""Defaults of tuning from ConfigMaps under KAITO's names: whose count, what they change, and what they never do."""

from __future__ import annotations

from typing import Any

import yaml

from kaito.kube.resources import NAMESPACES
from tests.workspace.builders import TUNING, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import CONFIG_MAPS, JOBS, until

OWN = "kaito-system"
QLORA = "qlora-params-template"
OTHER_MODEL = changed(
    TUNING, {"tuning.preset.name": "phi-3-mini-4k-instruct", "resource.instanceType": "Standard_NC24ads_A100_v4"}
)
SEED = 7


def defaults(rank: int) -> dict[str, Any]:
    sections = {
        "QuantizationConfig": {"load_in_4bit": True},
        "LoraConfig": {"r": rank, "lora_alpha": 8},
        "TrainingArguments": {"seed": SEED},
    }
    text = yaml.safe_dump({"training_config": sections})
    return {"metadata": {"name": QLORA}, "data": {"training_config.yaml": text}}


async def rank_of(stage: Stage) -> int:
    found = await stage.user.find(CONFIG_MAPS, "tuned-config", "default")
    return yaml.safe_load(found["data"]["training_config.yaml"])["training_config"]["LoraConfig"]["r"] if found else 0


async def until_rank(stage: Stage, wanted: int) -> None:
    async def reached() -> bool:
        return await rank_of(stage) == wanted

    await until(reached)


async def test_the_operators_namespace_gives_defaults_and_the_workspaces_own_comes_first(stage: Stage) -> None:
    await stage.user.create_if_absent(NAMESPACES, {"metadata": {"name": OWN}})
    await stage.user.create(CONFIG_MAPS, defaults(4), OWN)
    stage.operate()
    await stage.push_secret()
    await stage.apply(OTHER_MODEL)
    await until_rank(stage, 4)
    await stage.user.apply(CONFIG_MAPS, defaults(5), OWN)
    await until_rank(stage, 5)
    await stage.user.create(CONFIG_MAPS, defaults(6), "default")
    await until_rank(stage, 6)


async def test_an_operator_of_one_namespace_reads_its_own_too(stage: Stage) -> None:
    await stage.user.create_if_absent(NAMESPACES, {"metadata": {"name": OWN}})
    await stage.user.create(CONFIG_MAPS, defaults(4), OWN)
    stage.operate(namespace="default")
    await stage.push_secret()
    await stage.apply(OTHER_MODEL)
    await until_rank(stage, 4)


async def test_defaults_that_are_wrong_are_told_with_the_place(stage: Stage) -> None:
    await stage.user.create_if_absent(NAMESPACES, {"metadata": {"name": OWN}})
    wrong = {
        **defaults(4),
        "data": {
            "training_config.yaml": "training_config: {QuantizationConfig: {load_in_4bit: true}, LoraConfigg: {r: 4}}"
        },
    }
    await stage.user.create(CONFIG_MAPS, wrong, OWN)
    stage.operate()
    await stage.push_secret()
    await stage.apply(OTHER_MODEL)
    said = await stage.wait("tuned", "WorkspaceReady", status="False", reason="ConfigInvalid")
    assert f"{OWN}/{QLORA}" in said["message"]
    assert "LoraConfigg" in said["message"]


async def test_changed_defaults_train_nothing_again(stage: Stage) -> None:
    await stage.user.create_if_absent(NAMESPACES, {"metadata": {"name": OWN}})
    stage.operate()
    stage.play(stage.side.run)
    await stage.push_secret()
    await stage.apply(TUNING)
    await stage.wait("tuned", "WorkspaceReady")
    before = await stage.user.get(JOBS, "tuned", "default")
    await stage.user.create(CONFIG_MAPS, defaults(4), OWN)

    async def is_written() -> bool:
        found = await stage.user.get(CONFIG_MAPS, "tuned-config", "default")
        return f"seed: {SEED}\n" in found["data"]["training_config.yaml"]

    await until(is_written)
    after = await stage.user.get(JOBS, "tuned", "default")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert (await stage.condition("tuned", "WorkspaceReady"))["status"] == "True"
