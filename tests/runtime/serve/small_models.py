"""Small random models of several architectures with the built-in tokenizer, and the reference: `generate`."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, models

from kaito.runtime.model.main import find_builtin

VOCABULARY = 2048  # the built-in tokenizer's
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 4,
}


def _mistral() -> Any:
    return models.mistral.MistralForCausalLM(models.mistral.MistralConfig(**SHAPE, head_dim=16, sliding_window=9))


def _gemma2() -> Any:
    config = models.gemma2.Gemma2Config(**SHAPE, head_dim=16, sliding_window=9, query_pre_attn_scalar=16)
    return models.gemma2.Gemma2ForCausalLM(config)


def _gpt2() -> Any:
    config = models.gpt2.GPT2Config(
        vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=256, bos_token_id=None, eos_token_id=4
    )
    return models.gpt2.GPT2LMHeadModel(config)


ARCHITECTURES = {
    "phi3": lambda: models.phi3.Phi3ForCausalLM(models.phi3.Phi3Config(**SHAPE)),
    "llama": lambda: models.llama.LlamaForCausalLM(models.llama.LlamaConfig(**SHAPE)),
    "qwen2": lambda: models.qwen2.Qwen2ForCausalLM(models.qwen2.Qwen2Config(**SHAPE)),
    "qwen3": lambda: models.qwen3.Qwen3ForCausalLM(models.qwen3.Qwen3Config(**SHAPE, head_dim=16)),
    "mistral-sliding": _mistral,
    "gemma": lambda: models.gemma.GemmaForCausalLM(models.gemma.GemmaConfig(**SHAPE, head_dim=16)),
    "gemma2-softcap-sliding": _gemma2,
    "gpt2": _gpt2,
}


def save_model(name: str, folder: Path) -> Path:
    """Weights drawn wider than usual, so that two tokens are never nearly equal and greedy is well defined."""
    torch.manual_seed(len(name))
    model = ARCHITECTURES[name]()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.12)
    model.generation_config = GenerationConfig(eos_token_id=4, pad_token_id=0)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_builtin("tiny-phi-3")).save_pretrained(folder)
    return folder


TOOL_TEMPLATE = """{%- if tools %}
{{- '<|user|>\\n' + (tools | tojson) + ' Write <tool_call>{...}</tool_call><|end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|' + ('assistant' if message.role == 'assistant' else 'user') + '|>\\n' + message.content }}
{%- for call in message.tool_calls or [] %}{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}{%- endfor %}
{{- '<|end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"""


def save_tool_model(folder: Path) -> Path:
    """The built-in model with a template that takes tools, as Hermes and Qwen have it."""
    shutil.copytree(find_builtin("tiny-phi-3"), folder)
    (folder / "chat_template.jinja").write_text(TOOL_TEMPLATE)
    return folder


def save_embedding_model(folder: Path) -> Path:
    """A decoder with the files of sentence-transformers that make it an embedding model."""
    save_model("qwen3", folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    kinds = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(kinds))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    return folder


def save_adapter(base: Path, folder: Path, seed: int, **changes: Any) -> Path:
    """A random adapter on every linear layer, strong enough to change the answers."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **changes}
    with warnings.catch_warnings():
        # PEFT reads a property that transformers will drop, and says that it sets fan_in_fan_out for GPT-2.
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(**settings))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.15)
    adapted.save_pretrained(folder)
    return folder


class Reference:
    """Greedy answers by `generate`, one request at a time, with PEFT's own adapters."""

    def __init__(self, base: Path, adapters: dict[str, Path]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # as above
            self._adapted = {name: self._load(base, path) for name, path in adapters.items()}
        self._base = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()

    @staticmethod
    def _load(base: Path, adapter: Path) -> Any:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, adapter).eval()

    def greedy(self, prompt: Sequence[int], count: int, adapter: str | None = None) -> list[int]:
        model = self._base if adapter is None else self._adapted[adapter]
        ids = torch.tensor([list(prompt)])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False
            )
        tokens: list[int] = out[0, len(prompt) :].tolist()
        return tokens
