"""Checkpoints in a registry: pushed beside the training, pulled on another node, never in the training's way."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kaito.oci.auth import DockerConfig, write_docker_config
from kaito.oci.client import RegistryClient
from kaito.oci.image import push_image
from kaito.oci.reference import parse_reference
from kaito.oci.session import RetryPolicy, Session
from kaito.runtime.errors import StepError
from kaito.runtime.progress import Progress
from kaito.runtime.step import Step
from kaito.runtime.tune.main import tune
from kaito.runtime.tune.remote import CheckpointPusher, bring_checkpoint, drop_checkpoint
from kaito.runtime.tune.saved import find_checkpoint, write_mark
from tests.oci.registries import PASSWORD, USER, docker_registry, free_port
from tests.runtime.tiny import chats, make_model
from tests.runtime.tune.runs import (
    adapter,
    environment,
    finish,
    largest_difference,
    start,
    stop_after,
    write_config,
    write_data,
)

PATIENCE = 60.0
QUICK = RetryPolicy(tries=1)


@dataclass(frozen=True)
class Request:
    identity: str
    checkpoints: Path


class Node:
    """A machine with its own disk; all share the registry."""

    def __init__(self, root: Path, environ: dict[str, str], identity: str = "one") -> None:
        self.request = Request(identity, root / "checkpoints")
        self.request.checkpoints.mkdir(parents=True)
        self.step = Step("tune", environ, Progress("tune"))
        self.said: list[dict[str, Any]] = []
        self.step.say = lambda event, **fields: self.said.append({"event": event, **fields})  # type: ignore[method-assign]

    def save(self, at: int, size: int = 1000) -> Path:
        folder = self.request.checkpoints / f"checkpoint-{at}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(bytes([at]) * size)
        (folder / "deeper").mkdir()
        (folder / "deeper" / "state.json").write_text(json.dumps({"step": at}))
        write_mark(folder, self.request.identity)
        return folder

    def push(self, *steps: int) -> None:
        with CheckpointPusher(self.step, self.request) as pusher:
            for at in steps:
                pusher.offer(self.save(at))
                assert pusher.finish(PATIENCE)

    def bring(self) -> int | None:
        bring_checkpoint(self.step, self.request)
        found = find_checkpoint(self.request.checkpoints, self.request.identity)
        return None if found is None else int(found.name.partition("-")[2])

    @property
    def events(self) -> list[str]:
        return [one["event"] for one in self.said]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def environ(registry: str, tmp_path: Path) -> dict[str, str]:
    write_docker_config(tmp_path / "config.json", registry, USER, PASSWORD)
    image = f"{registry}/team/{tmp_path.name.replace('_', '-').lower()}:checkpoint"
    return {"KAITO_CHECKPOINT_IMAGE": image, "KAITO_REGISTRY_AUTH": str(tmp_path / "config.json")}


def test_another_node_takes_up_where_the_first_was(environ: dict[str, str], tmp_path: Path) -> None:
    first, second = Node(tmp_path / "a", environ), Node(tmp_path / "b", environ)
    first.push(3, 7)
    assert first.step.progress.snapshot()["checkpointPushedStep"] == 7
    assert not list((tmp_path / "a").glob(".push-*"))
    assert second.bring() == 7
    pulled = second.request.checkpoints / "checkpoint-7"
    assert (pulled / "adapter_model.safetensors").read_bytes() == bytes([7]) * 1000
    assert (pulled / "deeper" / "state.json").is_file()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["checkpoints"]


def manifests(environ: dict[str, str]) -> int:
    """How many manifests the repository's tag list leads to."""
    reference = parse_reference(environ["KAITO_CHECKPOINT_IMAGE"])

    async def count() -> int:
        async with Session(DockerConfig(Path(environ["KAITO_REGISTRY_AUTH"]))) as session:
            return len(await RegistryClient(session).tags(reference))

    return asyncio.run(count())


def test_the_tag_moves_and_goes_when_the_result_is_published(environ: dict[str, str], tmp_path: Path) -> None:
    node = Node(tmp_path / "a", environ)
    node.push(1, 2)
    assert manifests(environ) == 1
    drop_checkpoint(node.step)
    assert "checkpoint is removed from the registry" in node.events
    assert Node(tmp_path / "b", environ).bring() is None


def test_what_lies_here_is_not_replaced_by_less(environ: dict[str, str], tmp_path: Path) -> None:
    first, second = Node(tmp_path / "a", environ), Node(tmp_path / "b", environ)
    first.push(3)
    second.save(5)
    assert second.bring() == 5
    first.push(9)
    second.push(6)  # a node that was cut off and comes back late
    assert Node(tmp_path / "c", environ).bring() == 9
    assert "checkpoint is not pushed" in second.events


def test_another_run_does_not_resume_it_and_takes_the_tag_over(environ: dict[str, str], tmp_path: Path) -> None:
    Node(tmp_path / "a", environ).push(3)
    other = Node(tmp_path / "b", environ, identity="two")
    assert other.bring() is None
    assert "the checkpoint image is of another run" in other.events
    other.push(1)
    assert Node(tmp_path / "c", environ, identity="two").bring() == 1


def test_a_tag_that_holds_something_else_is_left_alone(environ: dict[str, str], tmp_path: Path) -> None:
    reference = parse_reference(environ["KAITO_CHECKPOINT_IMAGE"])
    (tmp_path / "mine").write_text("a model that someone else published")

    async def publish() -> str:
        async with Session(DockerConfig(Path(environ["KAITO_REGISTRY_AUTH"]))) as session:
            return (await push_image(RegistryClient(session), reference, {"mine": tmp_path / "mine"})).digest

    async def digest() -> str:
        async with Session(DockerConfig(Path(environ["KAITO_REGISTRY_AUTH"]))) as session:
            return (await RegistryClient(session).pull_manifest(reference))[0]

    before = asyncio.run(publish())
    node = Node(tmp_path / "a", environ)
    node.push(3)
    drop_checkpoint(node.step)
    assert asyncio.run(digest()) == before
    assert "something else" in next(one["why"] for one in node.said if one["event"] == "checkpoint is not pushed")


@pytest.mark.parametrize("trouble", ["unreachable", "wrong password"])
def test_a_registry_in_trouble_stops_nothing(trouble: str, environ: dict[str, str], tmp_path: Path) -> None:
    if trouble == "unreachable":
        environ["KAITO_CHECKPOINT_IMAGE"] = f"127.0.0.1:{free_port()}/a:b"
    else:
        address = environ["KAITO_CHECKPOINT_IMAGE"].partition("/")[0]
        write_docker_config(tmp_path / "config.json", address, USER, "wrong")
    node = Node(tmp_path / "a", environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kaito.runtime.tune.remote.PATIENT", QUICK)
        patch.setattr("kaito.runtime.tune.remote.BRIEF", QUICK)
        assert node.bring() is None
        assert node.events == ["the checkpoint image cannot be read"]
        with CheckpointPusher(node.step, node.request) as pusher:
            pusher.offer(node.save(1))
            pusher.offer(node.save(2))  # returns at once, whatever the registry does
            assert not pusher.finish(1.0)
    assert "checkpoint is not pushed" in node.events
    assert PASSWORD not in str(node.said)


@pytest.mark.slow
def test_a_training_that_loses_its_node_ends_with_the_same_adapter(environ: dict[str, str], tmp_path: Path) -> None:
    """The whole step: killed on one node, with its disk gone, and taken up on another by its checkpoint image."""
    model = make_model(tmp_path / "model")
    whole, lost = (setting(tmp_path / name, model) for name in ("whole", "lost"))
    finish(whole)
    process = start({**lost, **environ})
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stdout is not None
    for line in process.stdout:
        if '"checkpoint is pushed"' in line:
            process.kill()
            break
    process.communicate()
    watchdog.cancel()
    shutil.rmtree(tmp_path / "lost" / "out")
    log = finish({**lost, **environ})
    assert [event["event"] for event in log if event["event"] in ("checkpoint is pulled", "resuming")] == [
        "checkpoint is pulled",
        "resuming",
    ]
    assert largest_difference(adapter(tmp_path / "whole"), adapter(tmp_path / "lost")) < 1e-4


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.slow
def test_told_to_stop_the_last_checkpoint_reaches_the_registry(environ: dict[str, str], tmp_path: Path) -> None:
    variables = {**setting(tmp_path / "run", make_model(tmp_path / "model")), **environ}
    made = Step("tune", {**variables, "KAITO_CHECKPOINT_SECONDS": "3600"}, Progress("tune"))
    stop_after(made, 5)
    with pytest.raises(StepError, match="told to stop"):
        tune(made)
    assert made.progress.snapshot()["checkpointPushedStep"] == 5
    (saved,) = (tmp_path / "run" / "out" / "checkpoints").glob("checkpoint-*")
    assert saved.name == "checkpoint-5"


def setting(root: Path, model: Path) -> dict[str, str]:
    root.mkdir()
    data = write_data(root / "data", chats(40), chats(4))
    training = {"num_train_epochs": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "seed": 7}
    config = write_config(root / "config.yaml", TrainingArguments=training, LoraConfig={"r": 4, "lora_dropout": 0.1})
    return environment(root, model, data, config, KAITO_CHECKPOINT_SECONDS="0.3")
