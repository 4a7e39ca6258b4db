"""`kaito-runtime model`: the weights from the package, a folder, an image; and a hub that is not there."""

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
from kaito.runtime.model.main import BUILTIN, fetch_model
from kaito.runtime.step import run_step


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "phi3"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(2 << 20))
    return folder


def environ(root: Path, source: object) -> dict[str, str]:
    return {
        "KAITO_HOST": "127.0.0.1",
        "KAITO_PORT": "0",
        "KAITO_TERMINATION_LOG": str(root / "last"),
        "KAITO_MODEL": json.dumps({"name": "tiny-phi-3", "source": source}),
        "KAITO_MODEL_DIR": str(root / "model"),
    }


def run(variables: dict[str, str]) -> tuple[int, dict[str, Any]]:
    code = run_step("model", fetch_model, environ=variables)
    return code, json.loads(Path(variables["KAITO_TERMINATION_LOG"]).read_text())


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    made = Registry(tmp_path / "registry")
    await made.start()
    yield made
    await made.stop()


def test_from_a_folder_and_not_twice(weights: Path, tmp_path: Path) -> None:
    variables = environ(tmp_path, {"path": str(weights)})
    code, said = run(variables)
    assert (code, said["model"]) == (0, "tiny-phi-3")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == (weights / name).read_bytes()
    before = (tmp_path / "model" / "config.json").stat().st_mtime_ns
    assert run(variables)[0] == 0
    assert (tmp_path / "model" / "config.json").stat().st_mtime_ns == before


async def test_from_an_image(weights: Path, registry: Registry, tmp_path: Path) -> None:
    auth = tmp_path / "registry" / "config.json"
    image = f"{registry.name}/models/tiny:1"
    files = {f"workspace/weights/{path.name}": path for path in weights.iterdir()}
    async with Session(DockerConfig(auth)) as session:
        await push_image(RegistryClient(session), parse_reference(image), files)
    variables = environ(tmp_path, {"image": image}) | {"KAITO_REGISTRY_AUTH": str(auth)}
    code, _ = await asyncio.to_thread(run, variables)
    assert code == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
    code, said = await asyncio.to_thread(
        run, environ(tmp_path, {"image": f"{registry.name}/absent:1"}) | {"KAITO_REGISTRY_AUTH": str(auth)}
    )
    assert (code, said["reason"]) == (2, "ImageNotFound")


def test_every_builtin_model_is_whole(tmp_path: Path) -> None:
    names = [path.parent.name for path in BUILTIN.glob("*/config.json")]
    assert "tiny-phi-3" in names
    for name in names:
        assert (
            run(environ(tmp_path / name, {"builtin": name}) | {"KAITO_TERMINATION_LOG": str(tmp_path / "last")})[0] == 0
        )
        assert (tmp_path / name / "model" / "tokenizer_config.json").exists()


@pytest.mark.parametrize(
    ("source", "reason", "words"),
    [
        ({"builtin": "tiny-phi-4"}, "ModelNotFound", "tiny-phi-3"),
        ({"builtin": "../tune"}, "ModelNotFound", ""),
        ({"path": "/absent"}, "ModelNotFound", "does not exist"),
        ({}, "EnvironmentInvalid", "one of builtin, huggingface, image, path"),
        ({"builtin": "a", "path": "b"}, "EnvironmentInvalid", "one of"),
        ({"nonsense": "a"}, "EnvironmentInvalid", "nonsense"),
        ({"image": "UPPER/case"}, "ImageInvalid", "repository name"),
    ],
)
def test_wrong_sources_end_the_job(source: object, reason: str, words: str, tmp_path: Path) -> None:
    code, said = run(environ(tmp_path, source))
    assert (code, said["reason"]) == (2, reason)
    assert words in said["message"] + said["hint"]


def test_folders_that_are_no_models(weights: Path, tmp_path: Path) -> None:
    (weights / "model.safetensors").rename(weights / "pytorch_model.bin")
    code, said = run(environ(tmp_path, {"path": str(weights)}))
    assert (code, said["reason"]) == (2, "ModelInvalid")
    assert "safetensors" in said["message"]


def test_a_hub_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, said = run(environ(tmp_path, {"huggingface": "someone/model", "revision": "main"}))
    assert (code, said["reason"]) == (1, "HubUnreachable")
    assert "someone/model at revision main" in said["message"]
    assert said["hint"]


def test_a_wrong_name_on_the_hub_ends_the_job(tmp_path: Path) -> None:
    code, said = run(environ(tmp_path, {"huggingface": "not a name/at/all"}))
    assert (code, said["reason"]) == (2, "ModelNotFound")
