"""training_config.yaml: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.errors import InputError
from kaito.runtime.tune.config import RETIRED, SECTIONS, TuningConfig, _known_keys, check_method, parse_config

KAITO_QLORA = """
training_config:
  ModelConfig: {torch_dtype: "bfloat16", local_files_only: true, device_map: "auto"}
  QuantizationConfig:
    load_in_4bit: true
    bnb_4bit_quant_type: "nf4"
    bnb_4bit_compute_dtype: "bfloat16"
    bnb_4bit_use_double_quant: true
  LoraConfig: {r: 8, lora_alpha: 8, lora_dropout: 0.0}
  TrainingArguments:
    {output_dir: "/mnt/results", ddp_find_unused_parameters: false, save_strategy: "no", per_device_train_batch_size: 1}
  DataCollator: {mlm: true}
  DatasetConfig: {shuffle_dataset: true, train_test_split: 1}
"""


def section(name: str, **keys: object) -> str:
    return yaml.safe_dump({"training_config": {name: keys}})


def test_the_known_template_is_accepted() -> None:
    config = parse_config(KAITO_QLORA)
    assert config.lora == {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
    assert config.dataset.train_test_split == 1
    assert config.training["per_device_train_batch_size"] == 1
    assert check_method(config, "QLoRA") == "qlora"
    assert any("mlm" in one for one in config.warnings)


@pytest.mark.parametrize("text", ["", "training_config:", "training_config: {LoraConfig: }"])
def test_empty_is_the_default(text: str) -> None:
    assert parse_config(text) == TuningConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML at line"),
        ("other: {}", "root must be the one key training_config"),
        ("[1, 2]", "root must be"),
        ("training_config: 3", "must hold sections"),
        ("training_config: {LoraConfg: {}}", "Unrecognized section: LoraConfg; did you mean LoraConfig?"),
        ("training_config: {LoraConfig: [1]}", "LoraConfig must hold keys and values"),
        (section("LoraConfig", lora_alfa=8), "LoraConfig has no key 'lora_alfa'; did you mean lora_alpha?"),
        (section("TrainingArguments", learning_rte=1), "did you mean learning_rate?"),
        (section("DatasetConfig", trian_test_split=1), "did you mean train_test_split?"),
        (section("ModelConfig", torch_dtpe="x"), "did you mean torch_dtype?"),
        (section("LoraConfig", r="eight"), "LoraConfig.r is 'eight', but must be a whole number"),
        (section("LoraConfig", r=1.5), "must be a whole number"),
        (section("TrainingArguments", num_train_epochs=0), "must be over 0"),
        (section("LoraConfig", r=0), "LoraConfig.r is 0; it must be over 0"),
        (section("LoraConfig", lora_dropout=1), "must be from 0 to under 1"),
        (section("QuantizationConfig", load_in_4bit=True, bnb_4bit_quant_type="nf5"), "must be nf4 or fp4"),
        (section("TrainingArguments", learning_rate=-1), "cannot be negative"),
        (section("TrainingArguments", learning_rate=float("nan")), "must be a number"),
        (section("TrainingArguments", deepspeed="x.json"), "several nodes"),
        (section("TrainingArguments", push_to_hub=True), "tuning.output"),
        (section("TrainingArguments", output_dir="/mnt"), "must be a directory under /mnt"),
        (section("TrainingArguments", output_dir="/mnt/../etc"), "must be a directory under /mnt"),
        (section("TrainingArguments", output_dir="/home"), "must be a directory under /mnt"),
        (section("DatasetConfig", train_test_split=0), "over 0 and at most 1"),
        (section("DatasetConfig", train_test_split=1.5), "over 0 and at most 1"),
        (section("DatasetConfig", shuffle_dataset="maybe"), "must be true or false"),
    ],
)
def test_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(text)
    assert caught.value.reason == "ConfigInvalid"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("given_value", "read"),
    [("2e-4", 2e-4), (1, 1.0), ("1", 1.0), (0.5, 0.5)],
)
def test_numbers_may_be_spelled(given_value: object, read: float) -> None:
    assert parse_config(section("TrainingArguments", learning_rate=given_value)).training["learning_rate"] == read


def test_retired_keys_warn_and_are_renamed() -> None:
    config = parse_config(section("TrainingArguments", max_seq_length=64, warmup_ratio=0.1, overwrite_output_dir=True))
    assert config.training == {"max_length": 64, "warmup_steps": 0.1}
    assert len(config.warnings) == 3


@pytest.mark.parametrize(
    ("method", "flags", "words"),
    [
        ("lora", {"load_in_4bit": True}, "does not go with"),
        ("qlora", {"load_in_4bit": True, "load_in_8bit": True}, "set one"),
        ("qlora", {"load_in_4bit": False}, "needs load_in_4bit or load_in_8bit"),
        ("full", {}, "is not one of lora, qlora"),
    ],
)
def test_method_and_quantization_agree(method: str, flags: dict[str, bool], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_method(parse_config(section("QuantizationConfig", **flags)), method)


def test_checking_a_config_loads_no_machine_learning() -> None:
    code = "import sys, kaito.runtime.tune.config as c; c.parse_config(''); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_known_keys_are_those_of_the_installed_libraries() -> None:
    script = Path(__file__).parents[3] / "scripts" / "list_tuning_keys.py"
    code = (
        f"import sys, json, runpy; m = runpy.run_path({str(script)!r}, run_name='keys');"
        "json.dump(m['collect'](), sys.stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert yaml.safe_load(done.stdout.splitlines()[-1]) == _known_keys()


# Whatever is written, the answer is a config or an InputError with words.
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(scalars, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=8), c, max_size=3))
keys = st.sampled_from(
    [
        *_known_keys()["TrainingArguments"],
        *_known_keys()["LoraConfig"],
        *RETIRED["TrainingArguments"],
        "train_test_split",
    ]
) | st.text(max_size=10)
documents = st.fixed_dictionaries(
    {"training_config": st.dictionaries(st.sampled_from(SECTIONS) | st.text(max_size=8), st.dictionaries(keys, values))}
)


@given(documents | values)
def test_any_document_is_a_config_or_an_input_error(document: object) -> None:
    try:
        parse_config(yaml.safe_dump(document, allow_unicode=True))
    except InputError as error:
        assert error.message.startswith("training_config.yaml: ")
        assert error.hint


@given(st.text(max_size=200))
def test_any_text_is_a_config_or_an_input_error(text: str) -> None:
    try:
        parse_config(text)
    except InputError as error:
        assert error.message
