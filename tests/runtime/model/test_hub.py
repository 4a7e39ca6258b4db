"""Weights from a hub (one of the tests' own, on loopback): by revision, with a token, after a break, checked."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.model.main import fetch_model
from kaito.runtime.step import run_step
from tests.runtime.model.fake_hub import TOKEN, FakeHub, commit_of

WEIGHTS = bytes(range(256)) * 120_000  # 31 MB; the client goes on from whole pieces of 10 MB
FILES = {
    "config.json": b'{"model_type": "phi3"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "consolidated.safetensors": WEIGHTS,
    "pytorch_model.bin": b"never",
    "original/params.json": b"{}",
    "onnx/model.onnx": b"never",
    "1_Pooling/config.json": b"{}",
    "README.md": b"never",
}
MODELS = {
    "maker/phi": {"main": FILES, "v1": {**FILES, "config.json": b'{"model_type": "old"}'}},
    "maker/gated": {"main": FILES},
    "maker/pickled": {"main": {"config.json": b"{}", "pytorch_model.bin": b"x"}},
    "maker/sharded": {
        "main": {
            "config.json": b"{}",
            "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
            "model-1.safetensors": b"1",
        }
    },
}


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning and serving go offline in the process that imports them, which may be this one."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(MODELS, gated=frozenset({"maker/gated"})) as made:
        yield made


def run(hub: FakeHub, root: Path, source: object, **more: str) -> tuple[int, dict[str, Any]]:
    root.mkdir(parents=True, exist_ok=True)
    environ = {
        "KAITO_HOST": "127.0.0.1",
        "KAITO_PORT": "0",
        "KAITO_TERMINATION_LOG": str(root / "last"),
        "KAITO_MODEL": json.dumps({"name": "phi", "source": source}),
        "KAITO_MODEL_DIR": str(root / "model"),
        "HF_ENDPOINT": hub.url,
        "HOME": str(root),
        **more,
    }
    code = run_step("model", fetch_model, environ=environ)
    return code, json.loads((root / "last").read_text())


def test_one_commit_and_only_the_models_own_files(hub: FakeHub, tmp_path: Path) -> None:
    assert run(hub, tmp_path, {"huggingface": "maker/phi", "revision": "v1"})[0] == 0
    folder = tmp_path / "model"
    assert (folder / "config.json").read_bytes() == b'{"model_type": "old"}'
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(hub.fetched) == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert json.loads((folder / ".kaito-model.json").read_text())["version"] == commit_of("maker/phiv1")
    hub.fetched.clear()
    assert run(hub, tmp_path, {"huggingface": "maker/phi", "revision": "v1"})[0] == 0
    assert not hub.fetched
    (folder / "tokenizer.json").unlink()
    assert run(hub, tmp_path, {"huggingface": "maker/phi", "revision": "v1"})[0] == 0
    assert hub.fetched == ["tokenizer.json"]


def test_it_goes_on_after_a_break(hub: FakeHub, tmp_path: Path) -> None:
    """The connection breaks off in the middle, once in a run and once for the whole run: nothing comes twice."""
    hub.cut["model.safetensors"] = 25_000_000
    code, said = run(hub, tmp_path, {"huggingface": "maker/phi"})
    if code:
        assert (code, said["reason"]) == (1, "HubUnreachable")
        assert run(hub, tmp_path, {"huggingface": "maker/phi"})[0] == 0
    assert [one for one in hub.ranges if one != "bytes=0-"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_came_damaged_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.damaged.add("model.safetensors")
    code, said = run(hub, tmp_path, {"huggingface": "maker/phi"})
    assert (code, said["reason"]) == (1, "ModelDamaged")
    assert "model.safetensors" in said["message"]
    hub.damaged.clear()
    assert run(hub, tmp_path, {"huggingface": "maker/phi"})[0] == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == WEIGHTS


def test_a_gated_model_wants_the_token(hub: FakeHub, tmp_path: Path) -> None:
    code, said = run(hub, tmp_path, {"huggingface": "maker/gated"})
    assert (code, said["reason"]) == (2, "ModelForbidden")
    assert "modelAccessSecret" in said["hint"]
    assert run(hub, tmp_path, {"huggingface": "maker/gated"}, HF_TOKEN="wrong")[1]["hint"].startswith("accept")
    assert run(hub, tmp_path, {"huggingface": "maker/gated"}, HF_TOKEN=TOKEN)[0] == 0


@pytest.mark.parametrize(
    ("source", "reason", "words"),
    [
        ({"huggingface": "maker/absent"}, "ModelNotFound", "no model maker/absent"),
        ({"huggingface": "maker/phi", "revision": "v9"}, "ModelNotFound", "revision v9"),
        ({"huggingface": "maker/pickled"}, "ModelInvalid", "pytorch_model.bin"),
        ({"huggingface": "maker/sharded"}, "ModelInvalid", "model-2.safetensors"),
    ],
)
def test_what_no_retry_helps(hub: FakeHub, tmp_path: Path, source: object, reason: str, words: str) -> None:
    code, said = run(hub, tmp_path, source)
    assert (code, said["reason"]) == (2, reason)
    assert words in said["message"]


def test_a_hub_that_fails_or_is_away_is_tried_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.status = 500
    code, said = run(hub, tmp_path, {"huggingface": "maker/phi"})
    assert (code, said["reason"]) == (1, "HubRefused")
    assert "500" in said["message"]
    code, said = run(hub, tmp_path, {"huggingface": "maker/phi"}, HF_ENDPOINT="http://127.0.0.1:9")
    assert (code, said["reason"]) == (1, "HubUnreachable")
    assert "an image, a volume or a built-in model" in said["hint"]


def fetch_in_a_process(url: str, root: Path, cache: Path) -> None:
    hub = FakeHub({})
    hub.url = url
    code, _ = run(hub, root, {"huggingface": "maker/phi"}, KAITO_MODEL_CACHE=str(cache))
    raise SystemExit(code)


def test_pods_of_a_node_fetch_once(hub: FakeHub, tmp_path: Path) -> None:
    """Three pods at the same time with one cache: every file comes once, and each folder is whole."""
    context = multiprocessing.get_context("spawn")
    pods = [
        context.Process(target=fetch_in_a_process, args=(hub.url, tmp_path / str(number), tmp_path / "cache"))
        for number in range(3)
    ]
    for pod in pods:
        pod.start()
    for pod in pods:
        pod.join(120)
        assert pod.exitcode == 0
    # A client that waited too long on a busy machine may have asked for a file again, but not once for each pod.
    assert set(hub.fetched) == {"1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"}
    assert len(hub.fetched) <= 6
    for number in range(3):
        folder = tmp_path / str(number) / "model"
        assert (folder / "model.safetensors").read_bytes() == WEIGHTS
        assert (folder / "1_Pooling" / "config.json").exists()
