"""LoRA targets and widths are those of the models that transformers builds, on the meta device."""

import json
from typing import Any

import pytest

from kaito.catalog.architecture import known_families, parse_config
from kaito.catalog.lora import adapter_width, lora_targets
from kaito.catalog.models import figures_of
from kaito.estimate.lora import lora_parameters

MORE = ("gemma", "glm4", "cohere2", "olmo3", "exaone4", "smollm3", "minimax_m2", "granitemoe", "seed_oss")


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("family", [*sorted(known_families()), *MORE])
def test_adapters_are_as_wide_as_the_models_linear_layers(transformers: Any, family: str) -> None:
    import torch
    from transformers.pytorch_utils import Conv1D

    from kaito.runtime.tune.model import linear_modules

    config = transformers.AutoConfig.for_model(family)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    targets = linear_modules(model, ())
    assert list(lora_targets(type(model).__name__)) == targets, "run python scripts/list_lora_targets.py"
    head = model.get_output_embeddings()
    real = sum(
        sum(module.weight.shape)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in targets and isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
    )
    shape = parse_config(json.loads(config.to_json_string(use_diff=False)))
    assert adapter_width(shape) == real


def test_named_targets_count_alone(transformers: Any) -> None:
    shape = parse_config(transformers.AutoConfig.for_model("llama").to_dict())
    figures = figures_of(shape, None)
    two = lora_parameters(figures, 8, ("q_proj", "v_proj"))
    assert two == 32 * 8 * ((4096 + 4096) + (4096 + 4096))  # rank * (in + out), a layer; no grouped heads
    assert two < lora_parameters(figures, 8)
    assert lora_parameters(figures, 8, ("q_proj", "something_else")) == lora_parameters(figures, 8)
    assert lora_parameters(figures, 16) == 2 * lora_parameters(figures, 8)


def test_many_architectures_are_known_and_others_are_asked_when_they_are_loaded() -> None:
    assert lora_targets("Phi3ForCausalLM") == ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")
    assert lora_targets("GPT2LMHeadModel") == ("c_attn", "c_fc", "c_proj")
    assert lora_targets("MyOwnForCausalLM") == ()
