"""`kaito-runtime data` as the pod runs it: against the registry's /data/, a volume, an image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaito.local.registry import Registry
from kaito.oci.auth import DockerConfig
from kaito.oci.client import RegistryClient
from kaito.oci.image import push_image
from kaito.oci.reference import parse_reference
from kaito.oci.session import Session
from kaito.runtime.data.dataset import EVAL, TRAIN, eval_rows, read_dataset
from kaito.runtime.data.main import prepare
from kaito.runtime.step import run_step
from tests.runtime.data.corpus import CHAT, lines


class World:
    """One registry with a data folder, and the environment of a data step."""

    def __init__(self, root: Path, registry: Registry) -> None:
        self.root = root
        self.registry = registry
        self.environ = {
            "KAITO_HOST": "127.0.0.1",
            "KAITO_PORT": "0",
            "KAITO_TERMINATION_LOG": str(root / "last"),
            "KAITO_DATA_DIR": str(root / "out"),
            "KAITO_DATA_ALLOW": "127.0.0.0/8",
        }

    def offer(self, name: str, content: bytes) -> str:
        path = self.root / "web" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"http://{self.registry.name}/data/{name}"

    def urls(self, *urls: str) -> None:
        self.environ["KAITO_DATA_URLS"] = json.dumps(urls)

    async def run(self) -> int:
        return await asyncio.to_thread(run_step, "data", prepare, environ=self.environ)

    @property
    def words(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "last").read_text()))

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "out" / "report.json").read_text()))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    registry = Registry(tmp_path / "registry", data_dir=tmp_path / "web")
    await registry.start()
    yield World(tmp_path, registry)
    await registry.stop()


def texts(count: int, start: int = 0) -> bytes:
    return lines(*({"text": f"text {i}"} for i in range(start, start + count)))


async def test_several_urls_become_one_data_set(world: World) -> None:
    world.urls(world.offer("a/x.jsonl", lines(CHAT, {"foo": 1})), world.offer("b/x.jsonl", texts(3)))
    assert await world.run() == 0
    placed = list(read_dataset(world.root / "out" / TRAIN))
    assert [one.example.kind for one in placed] == ["chat", "text", "text", "text"]
    assert [message.content for message in placed[0].example.messages] == ["What is the capital of France?", "Paris."]
    assert world.words == {"train": 4, "eval": 0, "rejected": 1}
    assert world.report["rejections"][0]["line"] == 2
    assert not (world.root / "out" / "raw").exists()


async def test_missing_url_ends_the_job(world: World) -> None:
    url = world.offer("a.jsonl", texts(1)) + "x"
    world.urls(url)
    assert await world.run() == 2
    assert world.words["reason"] == "DataNotFound"
    assert url in world.words["message"]
    assert "404" in world.words["message"]


async def test_nothing_usable_ends_the_job_and_names_the_columns(world: World) -> None:
    world.urls(world.offer("a.jsonl", lines({"foo": 1, "bar": 2})))
    assert await world.run() == 2
    assert world.words["reason"] == "DataUnusable"
    assert "foo, bar" in world.words["message"]
    assert "messages (role, content)" in world.words["hint"]


async def test_loopback_is_refused_unless_it_is_allowed(world: World) -> None:
    world.urls(world.offer("a.jsonl", texts(1)))
    world.environ["KAITO_DATA_ALLOW"] = ""
    assert await world.run() == 2
    assert world.words["reason"] == "DataAddressForbidden"


async def test_an_unknown_config_key_is_found_before_anything_is_fetched(world: World) -> None:
    config = world.root / "config.yaml"
    config.write_text("training_config: {LoraConfig: {lora_alfa: 1}}")
    world.environ["KAITO_CONFIG"] = str(config)
    assert await world.run() == 2
    assert "did you mean lora_alpha?" in world.words["message"]


@pytest.mark.parametrize(("split", "rows", "held"), [("0.8", 10, 2), ("1", 300, 0), (None, 300, 6), (None, 50, 0)])
async def test_held_out_part(split: str | None, rows: int, held: int, world: World) -> None:
    if split:
        config = world.root / "config.yaml"
        config.write_text(f"training_config: {{DatasetConfig: {{train_test_split: {split}}}}}")
        world.environ["KAITO_CONFIG"] = str(config)
    world.urls(world.offer("a.jsonl", texts(rows)))
    assert await world.run() == 0
    train = [one.example.text for one in read_dataset(world.root / "out" / TRAIN)]
    path = world.root / "out" / EVAL
    evaluated = [one.example.text for one in read_dataset(path)] if path.exists() else []
    assert len(evaluated) == held
    assert sorted(train + evaluated) == sorted(f"text {i}" for i in range(rows))


async def test_a_second_run_does_nothing_and_other_input_does_all(world: World) -> None:
    world.urls(world.offer("a.jsonl", texts(2)))
    assert await world.run() == 0
    first = (world.root / "out" / TRAIN).stat().st_mtime_ns
    assert await world.run() == 0
    assert (world.root / "out" / TRAIN).stat().st_mtime_ns == first
    world.urls(world.offer("b.jsonl", texts(3)))
    assert await world.run() == 0
    assert world.report["train"] == 3


async def test_the_same_rows_have_the_same_digest(world: World) -> None:
    world.urls(world.offer("a.jsonl", texts(5)))
    assert await world.run() == 0
    first = world.report["digest"]
    world.urls(world.offer("a1.jsonl", texts(3)), world.offer("a2.jsonl", texts(2, start=3)))
    assert await world.run() == 0
    assert world.report["digest"] == first


async def test_a_volume(world: World) -> None:
    volume = world.root / "volume"
    (volume / "deep").mkdir(parents=True)
    (volume / "deep" / "a.jsonl").write_bytes(texts(2))
    (volume / ".hidden").write_bytes(b"x")
    world.environ["KAITO_DATA_SOURCE_DIR"] = str(volume)
    assert await world.run() == 0
    assert world.report["files"] == {"deep/a.jsonl": 2}


async def test_an_empty_volume_ends_the_job(world: World) -> None:
    (world.root / "volume").mkdir()
    world.environ["KAITO_DATA_SOURCE_DIR"] = str(world.root / "volume")
    assert await world.run() == 2
    assert world.words["reason"] == "DataNotFound"


async def test_an_image(world: World) -> None:
    (world.root / "a.jsonl").write_bytes(texts(2))
    auth = world.root / "registry" / "config.json"
    image = f"{world.registry.name}/data:1"
    async with Session(DockerConfig(auth)) as session:
        await push_image(RegistryClient(session), parse_reference(image), {"data/a.jsonl": world.root / "a.jsonl"})
    world.environ |= {"KAITO_DATA_IMAGE": image, "KAITO_REGISTRY_AUTH": str(auth)}
    assert await world.run() == 0
    assert world.report["files"] == {"a.jsonl": 2}
    world.environ["KAITO_DATA_IMAGE"] = f"{world.registry.name}/nothing:1"
    assert await world.run() == 2
    assert world.words["reason"] == "ImageNotFound"


async def test_no_source_ends_the_job(world: World) -> None:
    assert await world.run() == 2
    assert world.words["reason"] == "EnvironmentMissing"


@pytest.mark.parametrize("value", ["nonsense", "{}", "[1]", "[]"])
async def test_wrong_urls_variable(value: str, world: World) -> None:
    world.environ["KAITO_DATA_URLS"] = value
    assert await world.run() == 2


def test_the_split_is_seeded() -> None:
    rows = [bytes([number]) for number in range(100)]
    assert eval_rows(rows, 0.9, 1) == eval_rows(rows, 0.9, 1)
    assert eval_rows(rows, 0.9, 1) != eval_rows(rows, 0.9, 2)
    assert eval_rows(rows[:1], 0.5, 1) == []
    assert len(eval_rows(rows[:2], 0.999, 1)) == 1


def test_rows_that_occur_twice_are_not_held_out() -> None:
    rows = [b"same", b"a", b"same", b"b", b"same"]
    assert eval_rows(rows, 0.5, 1) == [1, 3]
    assert len(eval_rows([b"same"] * 4, 0.5, 1)) == 2, "where no row is unique, some are held out all the same"


async def test_leakage_is_reported_where_it_cannot_be_avoided(world: World) -> None:
    (world.root / "config.yaml").write_text("training_config: {DatasetConfig: {train_test_split: 0.5}}")
    world.environ["KAITO_CONFIG"] = str(world.root / "config.yaml")
    world.urls(world.offer("a.jsonl", lines(*[{"text": "one"}] * 4)))
    assert await world.run() == 0
    assert (world.report["leakedIntoEval"], world.report["duplicates"]) == (2, 3)
    world.urls(world.offer("b.jsonl", lines(*[{"text": "one"}] * 4, {"text": "two"}, {"text": "three"})))
    assert await world.run() == 0
    assert (world.report["leakedIntoEval"], world.report["eval"]) == (0, 2)


@pytest.mark.parametrize("content", ["", "two\nlines", "\u00e9"])
async def test_a_secret_that_is_no_header_ends_the_job(content: str, world: World) -> None:
    (world.root / "authorization").write_text(content)
    world.environ["KAITO_DATA_AUTHORIZATION"] = str(world.root / "authorization")
    world.urls(world.offer("a.jsonl", texts(1)))
    assert await world.run() == 2
    assert world.words["reason"] == "DataSecretInvalid"
    (world.root / "authorization").write_text("Bearer x\n")
    assert await world.run() == 0
