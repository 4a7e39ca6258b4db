"""The README's way: Phi-3-mini, qlora with KAITO's own config: trained, published, pulled, served with equal logits.

The architecture is Phi-3-mini's, cut to two layers, with random weights: at its real width in the soak tests, narrower
in the others.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kaito.local.registry import Registry
from kaito.runtime.adapter import fetch_adapter
from kaito.runtime.model.main import find_builtin
from kaito.runtime.progress import Progress
from kaito.runtime.publish.main import publish
from kaito.runtime.serve.engines.base import Generation, Sampling
from kaito.runtime.serve.engines.builtin.engine import AdapterSource, BuiltinEngine, BuiltinOptions
from kaito.runtime.step import Step
from kaito.runtime.tune.main import tune
from tests.runtime.tiny import chats
from tests.runtime.tune.runs import environment, write_data
from tests.runtime.tune.test_config import KAITO_QLORA

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
TARGETS = "k_proj, q_proj, v_proj, o_proj, gate_proj, down_proj, up_proj"  # as KAITO sets them for phi-3 models
# The figures of the published config.json of Phi-3-mini-4k-instruct, but for the number of layers.
REAL: dict[str, Any] = {
    "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
    "num_key_value_heads": 32, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 4, "pad_token_id": 0, "num_hidden_layers": 2,
}  # fmt: skip
NARROW = {**REAL, "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4,
          "num_key_value_heads": 4}  # fmt: skip
LOOKED_AT = 50  # of the likeliest tokens, whose probabilities are compared


def save_model(folder: Path, figures: dict[str, Any]) -> Path:
    from transformers import AutoTokenizer, Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    Phi3ForCausalLM(Phi3Config(**figures)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_builtin("tiny-phi-3")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "figures", [pytest.param(NARROW, id="narrow"), pytest.param(REAL, id="whole", marks=pytest.mark.soak)]
)
async def test_tuned_published_pulled_and_served(figures: dict[str, Any], tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", figures)
    await train_and_publish(base, tmp_path)
    adapter = tmp_path / "pulled"
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    assert config["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    prompt = [(37 * place + 11) % 2000 + 5 for place in range(24)]
    expected, plain = await asyncio.to_thread(log_probabilities, base, adapter, prompt)
    served = await served_probabilities(base, adapter, prompt)
    assert len(served) == LOOKED_AT
    for token, value in served.items():
        assert value == pytest.approx(float(expected[token]), abs=2e-3)
    assert float((expected - plain).abs().max()) > 0.05, "the adapter has to make a difference, or this shows nothing"


async def train_and_publish(base: Path, root: Path) -> None:
    """Tune as the Job does, push to a registry, and pull into `pulled`."""
    data = write_data(root / "data", chats(8))
    text = KAITO_QLORA.replace("lora_dropout: 0.0}", f"lora_dropout: 0.0, target_modules: [{TARGETS}]}}")
    text = text.replace('save_strategy: "no"', 'save_strategy: "no", max_steps: 4, learning_rate: 1.0e-2')
    (root / "config.yaml").write_text(text)
    registry = Registry(root / "registry")
    await registry.start()
    try:
        variables = {
            **environment(root, base, data, root / "config.yaml", KAITO_METHOD="qlora"),
            "KAITO_OUTPUT_IMAGE": f"{registry.name}/tuned:1",
            "KAITO_REGISTRY_AUTH": str(root / "registry" / "config.json"),
            "KAITO_ADAPTER_IMAGE": f"{registry.name}/tuned:1",
            "KAITO_ADAPTER_DIR": str(root / "pulled"),
        }
        for name, function in (("tune", tune), ("publish", publish), ("adapter", fetch_adapter)):
            await asyncio.to_thread(function, Step(name, variables, Progress(name)))
    finally:
        await registry.stop()


def log_probabilities(base: Path, adapter: Path, prompt: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the token after the prompt, as PEFT computes it: with the adapter, and without."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        tuned = model(input_ids=ids).logits[0, -1].log_softmax(-1)
        with model.disable_adapter():
            return tuned, model(input_ids=ids).logits[0, -1].log_softmax(-1)


async def served_probabilities(base: Path, adapter: Path, prompt: list[int]) -> dict[int, float]:
    options = BuiltinOptions(
        folder=base, name="base", adapters=(AdapterSource("tuned", adapter),), dtype="float32", kv_bytes=64 << 20
    )
    engine = BuiltinEngine(options)
    await engine.start()
    try:
        generation = Generation(
            "1", "tuned", tuple(prompt), Sampling(max_tokens=1, ignore_eos=True, logprobs=LOOKED_AT)
        )
        tokens = [token async for token in engine.generate(generation)]
    finally:
        await engine.stop()
    return dict(tokens[0].top)
