"""`kaito plan --model-image` against the suite's own registry: figures out of an artifact, and what cannot be read."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from kaito.catalog.models import Model, find_model
from kaito.cli.errors import CommandError, UsageError
from kaito.cli.plan_image import read_image
from kaito.local.registry import Registry
from kaito.oci.auth import DockerConfig
from kaito.oci.client import RegistryClient
from kaito.oci.reference import parse_reference
from kaito.oci.session import Session

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
}


@pytest.fixture
async def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    found = Registry(tmp_path / "registry")
    await found.start()
    (tmp_path / ".docker").mkdir()
    shutil.copy(tmp_path / "registry" / "config.json", tmp_path / ".docker" / "config.json")
    monkeypatch.setenv("HOME", str(tmp_path))
    yield found.name
    await found.stop()


async def push(image: str, files: Mapping[str, bytes], titles: bool = True) -> None:
    reference = parse_reference(image)
    async with Session(DockerConfig(Path.home() / ".docker" / "config.json")) as session:
        client = RegistryClient(session)
        layers = [
            {
                "mediaType": "application/octet-stream",
                "digest": await client.push_bytes(reference, content),
                "size": len(content),
                "annotations": {"org.opencontainers.image.title": name} if titles else {},
            }
            for name, content in files.items()
        ]
        empty = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2}
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {**empty, "digest": await client.push_bytes(reference, b"{}")},
            "layers": layers,
        }
        await client.push_manifest(reference, json.dumps(manifest).encode())


def mine() -> Model:
    found = find_model("me/mine")
    assert found is not None
    return found


async def test_the_config_and_the_sizes_of_the_weights_are_read(registry: str) -> None:
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "model-00001-of-00002.safetensors": b"a" * 1000,
        "model-00002-of-00002.safetensors": b"b" * 500,
        "consolidated.safetensors": b"c" * 1500,
    }
    await push(f"{registry}/me/mine:1", files)
    found = await asyncio.to_thread(read_image, mine(), f"{registry}/me/mine:1")
    assert found.figures is not None
    assert (found.figures.weights_bytes, found.figures.layers) == (1500, 2)
    assert found.architecture == "LlamaForCausalLM"


async def test_what_cannot_be_read_is_said(registry: str) -> None:
    with pytest.raises(UsageError, match="not a repository name"):
        read_image(mine(), "NOT AN IMAGE")
    with pytest.raises(CommandError, match="nothing"):
        await asyncio.to_thread(read_image, mine(), f"{registry}/me/nothing:1")
    await push(f"{registry}/me/packed:1", {"layer.tar": b"x" * 100}, titles=False)
    with pytest.raises(CommandError, match="does not hold") as caught:
        await asyncio.to_thread(read_image, mine(), f"{registry}/me/packed:1")
    assert "--model-folder" in caught.value.hint
    await push(f"{registry}/me/odd:1", {"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(CommandError, match="hidden_size"):
        await asyncio.to_thread(read_image, mine(), f"{registry}/me/odd:1")
    shutil.rmtree(Path.home() / ".docker")
    with pytest.raises(CommandError) as refused:
        await asyncio.to_thread(read_image, mine(), f"{registry}/me/odd:1")
    assert "docker login" in refused.value.hint
