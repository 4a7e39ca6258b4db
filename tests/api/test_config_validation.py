"""The texts of users' ConfigMaps: what is wrong, with the path of the key, and what to write instead."""

from __future__ import annotations

import pytest

from kaito.api.config_validation import check_inference_config, check_training_config
from kaito.catalog.models import find_model, tuning_config

QLORA = "training_config:\n  QuantizationConfig: {load_in_4bit: true}\n"
TRAINING: dict[str, tuple[str, str, str, str]] = {
    "not YAML": ("a: [", "qlora", "line", "Mend that line"),
    "a tab": ("a:\n\t- b", "qlora", "line 2", "is not YAML"),
    "a list": ("- a", "qlora", "training_config.yaml", "not a mapping"),
    "empty": ("", "qlora", "training_config.yaml", "not a mapping"),
    "no root": ("LoraConfig: {r: 8}", "qlora", "training_config", "six sections"),
    "root of text": ("training_config: x", "qlora", "training_config", "six sections"),
    "misspelt section": (QLORA + "  LoraConf: {r: 8}", "qlora", "training_config.LoraConf", "Did you mean LoraConfig"),
    "odd section": (QLORA + "  Zzz: {}", "qlora", "training_config.Zzz", "Use one of ModelConfig"),
    "section of text": (QLORA + "  LoraConfig: 8", "qlora", "training_config.LoraConfig", "not a mapping"),
    "qlora without quantization": ("training_config: {}", "qlora", "QuantizationConfig", "load_in_4bit: true"),
    "lora with quantization": (QLORA, "lora", "load_in_4bit", "method qlora"),
    "both widths": (
        "training_config: {QuantizationConfig: {load_in_4bit: true, load_in_8bit: true}}",
        "qlora",
        "QuantizationConfig",
        "Keep one",
    ),
    "width in words": (
        'training_config: {QuantizationConfig: {load_in_4bit: "yes"}}',
        "qlora",
        "load_in_4bit",
        "true or false",
    ),
    "output outside": (QLORA + "  TrainingArguments: {output_dir: /etc}", "qlora", "output_dir", "under /mnt"),
    "output is the root": (QLORA + "  TrainingArguments: {output_dir: /mnt}", "qlora", "output_dir", "under /mnt"),
    "output climbs": (QLORA + "  TrainingArguments: {output_dir: ../etc}", "qlora", "output_dir", "under /mnt"),
    "output is a number": (QLORA + "  TrainingArguments: {output_dir: 3}", "qlora", "output_dir", "under /mnt"),
}
INFERENCE: dict[str, tuple[str, str, str]] = {
    "not YAML": ("vllm: {", "line", "Mend"),
    "a list": ("- vllm", "inference_config.yaml", "not a mapping"),
    "misspelt key": ("vlm: {}", "vlm", "Did you mean vllm"),
    "vllm of text": ("vllm: fast", "vllm", "key: value"),
    "too long": ("vllm: {max-model-len: 9000}", "vllm.max-model-len", "8192 or less"),
    "too long, with underscores": ("vllm: {max_model_len: 9000}", "vllm.max-model-len", "8192 or less"),
    "length in words": ("vllm: {max-model-len: long}", "vllm.max-model-len", "whole number"),
    "length of 0": ("vllm: {max-model-len: 0}", "vllm.max-model-len", "whole number"),
    "length is true": ("vllm: {max-model-len: true}", "vllm.max-model-len", "whole number"),
}


@pytest.mark.parametrize(("text", "method", "field", "words"), TRAINING.values(), ids=TRAINING)
def test_training_config_refused(text: str, method: str, field: str, words: str) -> None:
    (fault,) = check_training_config(text, method)
    assert field in fault.field
    assert words in str(fault)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_defaults_are_valid(method: str) -> None:
    model = find_model("tiny-phi-3")
    assert model is not None
    assert check_training_config(tuning_config(model, method), method) == []


@pytest.mark.parametrize("folder", ["results", "/mnt/results", "/mnt/a/b"])
def test_output_folder_accepted(folder: str) -> None:
    assert check_training_config(QLORA + f"  TrainingArguments: {{output_dir: {folder}}}", "qlora") == []


@pytest.mark.parametrize(("text", "field", "words"), INFERENCE.values(), ids=INFERENCE)
def test_inference_config_refused(text: str, field: str, words: str) -> None:
    (fault,) = check_inference_config(text, 8192)
    assert field in fault.field
    assert words in str(fault)


GOOD = ["vllm: {}", "vllm: {max-model-len: 8192}", "vllm: {max-model-len: auto}", "max_probe_steps: 6", "{vllm: }"]


@pytest.mark.parametrize("text", GOOD)
def test_inference_config_accepted(text: str) -> None:
    assert check_inference_config(text, 8192) == []


def test_any_length_goes_where_the_limit_is_not_known() -> None:
    assert check_inference_config("vllm: {max-model-len: 1000000}", None) == []
