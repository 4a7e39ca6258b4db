"""Weights in bfloat16 and int8: close to float32, and the same whoever else is in the batch."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig

from kaito.runtime.errors import InputError
from kaito.runtime.model.main import find_builtin
from kaito.runtime.progress import Progress
from kaito.runtime.serve.engines.base import Form, Generation, Sampling
from kaito.runtime.serve.engines.builtin.engine import BuiltinEngine, BuiltinOptions
from kaito.runtime.serve.engines.builtin.guide import Guides
from kaito.runtime.serve.engines.builtin.model import choose_dtype
from kaito.runtime.serve.engines.builtin.packed import (
    ByteProduct,
    Int8Linear,
    PackedLinear,
    byte_product,
    can_pack,
    computes_bfloat16,
)
from kaito.runtime.serve.engines.builtin.sampling import Sampler, choose_all
from kaito.runtime.serve.engines.choose import builtin_options
from kaito.runtime.serve.settings import read_settings
from kaito.runtime.step import Step
from tests.runtime.serve.serving import MODEL
from tests.runtime.serve.small_models import save_model


async def answers(options: BuiltinOptions, prompts: list[tuple[int, ...]], *, together: bool) -> list[list[int]]:
    engine = BuiltinEngine(options)
    await engine.start()

    async def one(number: int, prompt: tuple[int, ...]) -> list[int]:
        wanted = Generation(str(number), "m", prompt, Sampling(max_tokens=12, ignore_eos=True))
        return [token.id async for token in engine.generate(wanted)]

    try:
        if together:
            return await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(prompts)))
        return [await one(number, prompt) for number, prompt in enumerate(prompts)]
    finally:
        await engine.stop()


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"dtype": "float32", "quantization": "int8"}])
async def test_a_batch_answers_as_each_alone(tmp_path: Path, settings: dict[str, str]) -> None:
    folder = save_model("llama", tmp_path / "model")
    options = BuiltinOptions(folder, "m", kv_bytes=64 << 20, threads=1, limits={"kept_prefixes": 0}, **settings)  # type: ignore[arg-type]
    prompts = [tuple(range(10 * n + 5, 10 * n + 12)) for n in range(6)]
    assert await answers(options, prompts, together=True) == await answers(options, prompts, together=False)


def test_a_packed_layer_is_the_one_it_replaces() -> None:
    assert error_of(lambda layer: PackedLinear(layer.weight, layer.bias)) < 1e-5


@pytest.mark.parametrize("largest", [127, 63])
@pytest.mark.parametrize("is_packed", [True, False])
def test_whole_numbers_are_multiplied_exactly(is_packed: bool, largest: int) -> None:
    """The largest bytes too, and whoever else is in the batch. Old CPUs do so with 7 bits only, or not at all."""
    product = ByteProduct(is_packed, largest)
    if not product.is_exact():
        pytest.skip("not on this CPU")
    torch.manual_seed(2)
    weight = torch.randint(-largest, largest + 1, (40, 96)).float()
    weight[:, 0] = largest  # so that every scale is 1
    rows = torch.cat([torch.randint(-127, 128, (6, 96)), torch.full((1, 96), 127), torch.full((1, 96), -127)]).float()
    rows[:, 1] = 127
    layer = Int8Linear(weight, None, product)
    with torch.inference_mode():
        assert torch.equal(layer(rows), rows @ weight.T)
        assert torch.equal(layer(rows[3:4]), rows[3:4] @ weight.T)
        assert bool((layer(torch.zeros(1, 96)) == 0).all())


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limit names instructions of x86")
def test_a_cpu_without_products_of_bytes_has_weights_of_seven_bits() -> None:
    program = "from kaito.runtime.serve.engines.builtin.packed import byte_product; print(byte_product().largest)"
    environ = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    made = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "63"


def test_whole_numbers_are_close_to_the_layer_they_replace() -> None:
    product = byte_product()
    if product is None:
        pytest.skip("this CPU multiplies no bytes exactly")
    assert error_of(lambda layer: Int8Linear(layer.weight, layer.bias, product)) < 0.04


def error_of(replaced: Callable[[torch.nn.Linear], torch.nn.Module]) -> float:
    """The largest error of some rows, as a part of the largest number."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(96, 40)
    rows = torch.randn(1, 7, 96)
    with torch.inference_mode():
        expected = layer(rows)
        made = replaced(layer)(rows)
    assert made.shape == expected.shape
    return float((made - expected).abs().max() / expected.abs().max())


def test_float32_can_be_packed_wherever_torch_has_onednn() -> None:
    assert can_pack(torch.float32)
    assert not can_pack(torch.float16)


NATIVE = torch.bfloat16 if computes_bfloat16() else torch.float32


@pytest.mark.parametrize(
    ("name", "stored", "mebibytes", "expected"),
    [
        ("float16", torch.bfloat16, 1, torch.float16),
        ("half", torch.bfloat16, 1, torch.float16),
        ("auto", torch.bfloat16, 20, torch.float32),
        ("auto", torch.bfloat16, 900, NATIVE),
        ("auto", torch.float32, 900, torch.float32),
        ("auto", torch.float16, 900, torch.float32),
    ],
)
def test_what_a_model_is_computed_in(
    name: str, stored: torch.dtype, mebibytes: int, expected: torch.dtype, tmp_path: Path
) -> None:
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(mebibytes << 20)
    assert choose_dtype(name, LlamaConfig(dtype=stored), tmp_path, torch.device("cpu")) == expected


async def test_a_context_that_does_not_fit_is_cut_but_not_a_wish(tmp_path: Path) -> None:
    folder = save_model("llama", tmp_path / "model")
    engine = BuiltinEngine(BuiltinOptions(folder, "m", kv_bytes=256 * 512 + 1000, threads=1))
    await engine.start()
    assert engine.context_length == 256
    await engine.stop()
    with pytest.raises(InputError, match="MiB for keys and values"):
        await BuiltinEngine(BuiltinOptions(folder, "m", kv_bytes=50 * 512, threads=1, max_length=200)).start()


@pytest.mark.parametrize(
    ("size", "ends"),
    [(2048, ()), (100, (4,)), (2048, (4, 5000)), (4096, (4, 0))],
    ids=["no end", "small", "far", "padded"],
)
def test_forms_for_vocabularies_of_every_size(size: int, ends: tuple[int, ...]) -> None:
    """Models may have no end token, more rows than tokens, or fewer."""
    tokenizer = AutoTokenizer.from_pretrained(find_builtin(MODEL))
    guide = Guides(tokenizer, size, frozenset(ends)).make(Form("json", '{"type": "boolean"}', "response_format"))
    sampler = Sampler(Sampling(max_tokens=9, guide=guide), (), frozenset(ends))
    text = ""
    for _ in range(9):
        logits = torch.zeros(1, max(size, 2048))
        (choice,) = choose_all(logits, [sampler])
        sampler.note(choice.token)
        text += tokenizer.decode([choice.token], skip_special_tokens=True)
        if sampler.is_done:
            break
    assert text in ("true", "false")


def test_another_quantization_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "inference_config.yaml"
    config.write_text("vllm:\n  quantization: fp8\n")
    told = {
        "KAITO_PRESET": MODEL,
        "KAITO_MODEL_DIR": str(save_model("llama", tmp_path / "m")),
        "KAITO_CONFIG": str(config),
    }
    step = Step("serve", told, Progress("serve"))
    with pytest.raises(InputError, match="'fp8'"):
        builtin_options(read_settings(step), step)
