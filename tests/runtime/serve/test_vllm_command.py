"""The command line that vLLM's server is started with, as sets of flags beside KAITO's documented ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.errors import InputError
from kaito.runtime.serve.engines.vllm.adapters import lora_modules
from kaito.runtime.serve.engines.vllm.command import Launch, LoraModule, render_command, render_flags
from kaito.runtime.serve.settings import AdapterSetting

MODEL = Path("/workspace/weights")
WHERE = {"--model=/workspace/weights", "--host=127.0.0.1", "--port=5001"}
# What KAITO always passes; kv-events-config is left out, as its port is not exposed and nobody listens.
ALWAYS = {
    "--gpu-memory-utilization=0.84",
    "--max-model-len=auto",
    "--tensor-parallel-size=1",
    "--served-model-name=mymodel",
    "--compilation-config.pass_config.fuse_allreduce_rms=False",
}


def flags(options: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    return render_flags(Launch(MODEL, "mymodel", 5001, options or {}, **changes))


@pytest.mark.parametrize(
    ("options", "gone", "added"),
    [
        pytest.param({}, set(), set(), id="one-gpu"),
        pytest.param(
            {"tensor-parallel-size": 2}, {"--tensor-parallel-size=1"}, {"--tensor-parallel-size=2"}, id="two-gpus"
        ),
        pytest.param(
            {
                "pipeline-parallel-size": 4,
                "distributed-executor-backend": "ray",
                "gpu-memory-utilization": 0.82,
            },
            {"--gpu-memory-utilization=0.84"},
            {
                "--pipeline-parallel-size=4",
                "--distributed-executor-backend=ray",
                "--gpu-memory-utilization=0.82",
            },
            id="four-nodes",
        ),
        pytest.param({"max-model-len": 4096}, {"--max-model-len=auto"}, {"--max-model-len=4096"}, id="user-config"),
    ],
)
def test_the_documented_cases(options: dict[str, Any], gone: set[str], added: set[str]) -> None:
    made = flags(options)
    assert len(made) == len(set(made))
    assert set(made) == WHERE | (ALWAYS - gone) | added


def test_the_program() -> None:
    command = render_command("python3", Launch(MODEL, "mymodel", 5001))
    assert command[:3] == ["python3", "-m", "vllm.entrypoints.openai.api_server"]


def test_without_cuda_there_is_no_gpu_flag() -> None:
    assert not any("gpu" in word or "allreduce" in word for word in flags(has_cuda=False))


def test_gpus_without_bfloat16_compute_in_float16() -> None:
    assert "--dtype=half" in flags(has_bfloat16=False)
    assert "--dtype=half" not in flags()
    assert "--dtype=float32" in flags({"dtype": "float32"}, has_bfloat16=False)


def test_adapters() -> None:
    adapters = [LoraModule("a", Path("/mnt/adapter/a"), 8), LoraModule("b", Path("/mnt/adapter/b"), 40)]
    made = flags(adapters=adapters)
    assert {"--enable-lora", "--max-loras=2", "--max-lora-rank=64"} <= set(made)
    first = made.index("--lora-modules") + 1
    assert [json.loads(word) for word in made[first : first + 2]] == [
        {"name": "a", "path": "/mnt/adapter/a"},
        {"name": "b", "path": "/mnt/adapter/b"},
    ]


@pytest.mark.parametrize(("options", "room"), [({}, 2), ({"max-loras": 1}, 2), ({"max-loras": 4}, 4)])
def test_on_a_cpu_one_place_for_adapters_stays_empty(options: dict[str, int], room: int) -> None:
    made = flags(options, adapters=[LoraModule("a", Path("/mnt/adapter/a"), 8)], has_cuda=False)
    assert f"--max-loras={room}" in made


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"enforce-eager": True}, ["--enforce-eager"]),
        ({"enable-prefix-caching": False}, ["--no-enable-prefix-caching"]),
        ({"seed": None}, []),
        ({"served-model-name": ["a", "b"]}, ["--served-model-name", "a", "b"]),
        ({"allowed-origins": ["https://a"]}, ['--allowed-origins=["https://a"]']),
        ({"hf-overrides": {"a": [1, True]}}, ['--hf-overrides={"a": [1, true]}']),
        ({"middleware": ["a.b", "c.d"]}, ["--middleware=a.b", "--middleware=c.d"]),
        ({"chat-template": "-x"}, ["--chat-template=-x"]),
    ],
)
def test_values_of_the_map(options: dict[str, Any], words: list[str]) -> None:
    text, key = "\0".join(flags(options)), next(iter(options))
    assert "\0".join(words) in text
    assert bool(words) == (f"--{key}" in text or f"--no-{key}" in text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "other"}, "vllm.model is not for the user"),
        ({"api-key": "k"}, "vllm.api-key"),
        ({"a b": 1}, "not the name of a flag"),
        ({"lora-list": []}, "empty list"),
        ({"x": ["a", "--port=1"]}, "read as a flag"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        flags(options)


def test_a_strength_goes_into_the_scaling(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    (source / "adapter_config.json").write_text('{"r": 8, "lora_alpha": 16}')
    (source / "adapter_model.safetensors").write_bytes(b"weights")
    [made] = lora_modules([AdapterSetting("a", source, 0.5)], tmp_path / "scratch")
    assert made.folder != source
    assert json.loads((made.folder / "adapter_config.json").read_text())["lora_alpha"] == 8.0
    assert (made.folder / "adapter_model.safetensors").read_bytes() == b"weights"
    [same] = lora_modules([AdapterSetting("a", source, 1.0)], tmp_path / "scratch")
    assert (same.folder, same.rank) == (source, 8)
