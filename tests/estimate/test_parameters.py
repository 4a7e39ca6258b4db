"""Parameters counted from a config equal those of the model that transformers builds from it, on the meta device."""

import json
from typing import Any

import pytest

from kaito.catalog.architecture import ConfigIncomplete, known_families, parse_config
from kaito.catalog.parameters import active_parameters, total_parameters


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("family", sorted(known_families()))
def test_counts_equal_the_real_model(transformers: Any, family: str) -> None:
    import torch

    config = transformers.AutoConfig.for_model(family)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    real = sum(parameter.numel() for parameter in model.parameters())
    written = json.loads(config.to_json_string(use_diff=False))
    assert total_parameters(parse_config(written)) == real


def test_a_mixture_computes_with_fewer_than_it_holds(transformers: Any) -> None:
    shape = parse_config(transformers.AutoConfig.for_model("gpt_oss").to_dict())
    assert total_parameters(shape) == pytest.approx(116.8e9, rel=0.001)
    assert active_parameters(shape) == pytest.approx(5.7e9, rel=0.03)  # the model card: 5.1 B without embeddings


@pytest.mark.parametrize(
    ("config", "says"),
    [
        pytest.param({}, "hidden_size", id="empty"),
        pytest.param({"hidden_size": 8, "num_hidden_layers": 2}, "num_attention_heads", id="no heads"),
        pytest.param({"hidden_size": 8, "n_layer": 2, "n_head": 2}, "vocab_size", id="no vocabulary"),
        pytest.param({"hidden_size": "8"}, "hidden_size", id="text for a number"),
    ],
)
def test_what_a_config_lacks_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigIncomplete, match=says):
        parse_config(config)


def test_of_a_multimodal_model_the_language_part_counts() -> None:
    text = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16}
    assert parse_config({"model_type": "gemma3", "text_config": {**text, "model_type": "gemma3_text"}}).hidden == 8


def test_windows_and_states_are_counted_by_layer() -> None:
    base = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 16, "sliding_window": 4}
    mixed = parse_config(
        {**base, "num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "mamba"]}
    )
    assert (mixed.sliding_layers, mixed.full_layers, mixed.linear_layers) == (1, 1, 1)
    hybrid = parse_config({**base, "num_hidden_layers": 5, "sliding_window": None, "hybrid_override_pattern": "M-M*-"})
    assert (hybrid.full_layers, hybrid.linear_layers) == (1, 4)
