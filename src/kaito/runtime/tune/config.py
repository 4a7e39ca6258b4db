"""`training_config.yaml`, strictly read: six sections, unknown keys are errors that name the nearest right one.

The section names and keys are those of existing tuning ConfigMaps: ModelConfig and DatasetConfig of KAITO, LoraConfig
of PEFT, TrainingArguments of TRL's SFTConfig, QuantizationConfig of transformers' BitsAndBytesConfig, DataCollator.
This module loads none of these libraries: the `data` step checks the config too, before a model is fetched.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kaito.runtime.data.shapes import Columns
from kaito.runtime.errors import InputError

SECTIONS = ("ModelConfig", "QuantizationConfig", "LoraConfig", "TrainingArguments", "DatasetConfig", "DataCollator")

# Keys that older configs hold. To a name: renamed since. To "": without effect here, said in a warning.
RETIRED = {
    "TrainingArguments": {
        "max_seq_length": "max_length",
        "evaluation_strategy": "eval_strategy",
        "warmup_ratio": "warmup_steps",  # a number under 1 is a ratio
        "no_cuda": "use_cpu",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "overwrite_output_dir": "",
        "logging_dir": "",
        "save_safetensors": "",
        "jit_mode_eval": "",
        "use_ipex": "",
        "use_mps_device": "",
        "half_precision_backend": "",
        "fp16_backend": "",
        "fp16_opt_level": "",
        "dataset_batch_size": "",
        "num_of_sequences": "",
        "include_tokens_per_second": "",
        "torchdynamo": "",
        "ray_scope": "",
        "past_index": "",
        "tpu_num_cores": "",
        "tpu_metrics_debug": "",
        "auto_find_batch_size": "",
        "save_on_each_node": "",
    },
    "LoraConfig": {"use_loftq": "", "use_rslora_scaling": "use_rslora"},
    "QuantizationConfig": {"quant_method": "", "_load_in_4bit": "", "_load_in_8bit": ""},
}
# Keys of the right libraries that are refused: the runtime decides these, or they would send data elsewhere.
REFUSED = {
    "resume_from_checkpoint": "the step resumes by itself from KAITO_OUTPUT_DIR/checkpoints",
    "deepspeed": "several nodes are not tuned on in this release",
    "fsdp": "several nodes are not tuned on in this release",
    "push_to_hub": "the adapter goes where tuning.output says",
    "model_init_kwargs": "use the section ModelConfig",
    "dataset_kwargs": "use the section DatasetConfig",
    "torch_compile": "compiling is not offered in this release",
}
METHODS = ("lora", "qlora")


@dataclass(frozen=True)
class ModelConfig:
    """KAITO's section ModelConfig. `dtype` and `torch_dtype` are the same; "auto" lets the device decide."""

    torch_dtype: str = "auto"
    dtype: str | None = None
    attn_implementation: str | None = None
    chat_template: str | None = None
    trust_remote_code: bool = False
    # Accepted because existing configs hold them; the weights are always those of KAITO_MODEL_DIR.
    pretrained_model_name_or_path: str | None = None
    local_files_only: bool = True
    device_map: str | None = "auto"
    state_dict: dict[str, Any] | None = None
    cache_dir: str | None = None
    from_tf: bool = False
    force_download: bool = False
    resume_download: bool = False
    proxies: dict[str, Any] | None = None
    output_loading_info: bool = False
    revision: str = "main"
    load_in_4bit: bool = False
    load_in_8bit: bool = False


@dataclass(frozen=True)
class DatasetConfig:
    """KAITO's section DatasetConfig. `train_test_split` is the part that is trained on, 0 < part <= 1."""

    dataset_path: str | None = None
    dataset_extension: str | None = None
    shuffle_dataset: bool = True
    shuffle_seed: int = 42
    context_column: str | None = None
    response_column: str | None = None
    messages_column: str | None = None
    train_test_split: float | None = None

    def columns(self) -> Columns:
        return Columns(self.messages_column or "", self.context_column or "", self.response_column or "")


@dataclass(frozen=True)
class DataCollator:
    """KAITO's section DataCollator: accepted, and without effect, because causal models have no mask token."""

    mlm: bool = False
    mlm_probability: float | None = None
    mask_replace_prob: float | None = None
    random_replace_prob: float | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    tf_experimental_compile: bool = False
    seed: int | None = None
    whole_word_mask: bool = False


@dataclass(frozen=True)
class TuningConfig:
    """The whole file. The three library sections hold only what was given, each value of its declared type."""

    model: ModelConfig = field(default_factory=ModelConfig)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    collator: DataCollator = field(default_factory=DataCollator)
    warnings: tuple[str, ...] = ()


def read_config(path: Path | None) -> TuningConfig:
    """The config in a file; an absent file is the default config. Raises InputError (reason ConfigInvalid)."""
    if path is None or not path.exists():
        return TuningConfig()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(f"it is not UTF-8 text (byte {error.start})") from error
    return parse_config(text)


def parse_config(text: str) -> TuningConfig:
    """The config in a YAML text. Raises InputError (reason ConfigInvalid)."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: dates and numbers that do not exist
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise _invalid(f"it is not YAML{where}: {getattr(error, 'problem', None) or _first_line(error)}") from error
    if document is None:
        return TuningConfig()
    if not isinstance(document, dict) or set(document) != {"training_config"}:
        raise _invalid("its root must be the one key training_config")
    body = document["training_config"] or {}
    if not isinstance(body, dict):
        raise _invalid("training_config must hold sections")
    for name, section in body.items():
        if name not in SECTIONS:
            raise _invalid(f"Unrecognized section: {name}{_did_you_mean(str(name), SECTIONS)}")
        if not isinstance(section, (dict, type(None))):
            raise _invalid(f"the section {name} must hold keys and values")
    return _sections({name: body.get(name) or {} for name in SECTIONS})


def check_method(config: TuningConfig, method: str) -> str:
    """`method` in lower case, agreeing with the quantization flags. Raises InputError."""
    name = method.strip().lower()
    if name not in METHODS:
        raise InputError(
            "MethodUnknown", f"tuning method {method!r} is not one of lora, qlora", "correct tuning.method"
        )
    flags = [key for key in ("load_in_4bit", "load_in_8bit") if config.quantization.get(key)]
    if len(flags) == 2:
        raise _invalid("QuantizationConfig sets both load_in_4bit and load_in_8bit; set one")
    if name == "lora" and flags:
        raise _invalid(f"the method lora does not go with QuantizationConfig.{flags[0]}; use qlora, or remove it")
    if name == "qlora" and config.quantization and not flags:
        raise _invalid("the method qlora needs load_in_4bit or load_in_8bit in QuantizationConfig")
    return name


def _sections(body: Mapping[str, Mapping[str, Any]]) -> TuningConfig:
    warnings: list[str] = []
    training = _library_section("TrainingArguments", _sorted_by_length(body["TrainingArguments"]), warnings)
    for key, why in REFUSED.items():
        if training.get(key) not in (None, False, "", {}):
            raise _invalid(f"TrainingArguments.{key} cannot be set: {why}")
    training = {key: value for key, value in training.items() if key not in REFUSED}
    _check_output_dir(training.pop("output_dir", None))
    collator = _own_section(DataCollator, body["DataCollator"])
    warnings += [
        f"DatasetConfig.{key} has no effect: all files of the input are used, whatever their names"
        for key in ("dataset_path", "dataset_extension")
        if body["DatasetConfig"].get(key)
    ]
    if collator.mlm:
        warnings.append("DataCollator.mlm has no effect: causal language models have no mask token")
    dataset = _own_section(DatasetConfig, body["DatasetConfig"])
    if dataset.train_test_split is not None and not 0 < dataset.train_test_split <= 1:
        raise _invalid(f"DatasetConfig.train_test_split is {dataset.train_test_split}; it must be over 0 and at most 1")
    quantization = _library_section("QuantizationConfig", body["QuantizationConfig"], warnings)
    if quantization.get("bnb_4bit_quant_type") not in (None, "nf4", "fp4"):
        kind = quantization["bnb_4bit_quant_type"]
        raise _invalid(f"QuantizationConfig.bnb_4bit_quant_type is {kind!r}; it must be nf4 or fp4")
    lora = _check_lora(_library_section("LoraConfig", body["LoraConfig"], warnings))
    return TuningConfig(
        model=_own_section(ModelConfig, body["ModelConfig"]),
        quantization=quantization,
        lora=lora,
        training=_check_numbers(training),
        dataset=dataset,
        collator=collator,
        warnings=tuple(warnings),
    )


def _sorted_by_length(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """`group_by_length: true` of older configs, as the libraries of today spell it."""
    if "group_by_length" not in given:
        return given
    rest = {key: value for key, value in given.items() if key != "group_by_length"}
    if not _typed("TrainingArguments.group_by_length", given["group_by_length"], ["bool"]):
        return rest
    return {"train_sampling_strategy": "group_by_length", **rest}


def _library_section(name: str, given: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    known = _known_keys()[name]
    retired = RETIRED[name]
    result: dict[str, Any] = {}
    for raw, value in given.items():
        key = str(raw)
        if key in retired:
            replacement = retired[key]
            warnings.append(f"{name}.{key} " + (f"is now {replacement}" if replacement else "has no effect here"))
            if not replacement or replacement in given:
                continue
            key = replacement
        if key not in known:
            raise _invalid(f"{name} has no key {key!r}{_did_you_mean(key, [*known, *retired])}")
        result[key] = _typed(f"{name}.{raw}", value, known[key])
    return result


def _own_section(cls: type[Any], given: Mapping[str, Any]) -> Any:
    known = {one.name: str(one.type) for one in fields(cls)}
    values = {}
    for raw, value in given.items():
        if raw not in known:
            raise _invalid(f"{cls.__name__} has no key {str(raw)!r}{_did_you_mean(str(raw), known)}")
        names = known[raw].replace("dict[str, Any]", "dict").replace("None", "null").split(" | ")
        values[raw] = _typed(f"{cls.__name__}.{raw}", value, names)
    return cls(**values)


def _typed(where: str, value: Any, types: list[str]) -> Any:
    """`value` as one of the YAML types; a text that spells a number or a truth counts, as in `learning_rate: 2e-4`."""
    if isinstance(value, str) and "str" not in types:
        value = _spelled(value)
    if isinstance(value, str) and value in ("None", "null") and "null" in types and "str" not in types:
        return None
    if isinstance(value, bool):
        fits = "bool" in types
    elif isinstance(value, int):
        fits = "int" in types or "float" in types
        value = float(value) if "int" not in types and fits else value
    elif isinstance(value, float):
        fits = "float" in types and math.isfinite(value)
    else:
        names = {str: "str", list: "list", dict: "dict", type(None): "null"}
        fits = names.get(type(value), "") in types
    if not fits:
        wanted = " or ".join("a whole number" if t == "int" else _WORDS.get(t, t) for t in types)
        raise _invalid(f"{where} is {value!r}, but must be {wanted}")
    return value


_WORDS = {
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "dict": "a map",
    "null": "null",
}


def _spelled(text: str) -> Any:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return int(lowered)
    except ValueError:
        pass
    try:
        return float(lowered)
    except ValueError:
        return text


POSITIVE = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_length",
)
NOT_NEGATIVE = ("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm", "save_total_limit")


def _check_numbers(training: dict[str, Any]) -> dict[str, Any]:
    for key in POSITIVE:
        if training.get(key) is not None and training[key] <= 0:
            raise _invalid(f"TrainingArguments.{key} is {training[key]}; it must be over 0")
    for key in NOT_NEGATIVE:
        if training.get(key) is not None and training[key] < 0:
            raise _invalid(f"TrainingArguments.{key} is {training[key]}; it cannot be negative")
    return training


def _check_lora(lora: dict[str, Any]) -> dict[str, Any]:
    for key in ("r", "lora_alpha"):
        if lora.get(key, 1) <= 0:
            raise _invalid(f"LoraConfig.{key} is {lora[key]}; it must be over 0")
    if not 0 <= lora.get("lora_dropout", 0) < 1:
        raise _invalid(f"LoraConfig.lora_dropout is {lora['lora_dropout']}; it must be from 0 to under 1")
    return lora


def _check_output_dir(value: Any) -> None:
    """Only checked, as KAITO does; results always go to KAITO_OUTPUT_DIR."""
    if value is None or value == "":
        return
    parts = [part for part in str(value).split("/") if part not in ("", ".")]
    under = parts[1:] if str(value).startswith("/") and parts[:1] == ["mnt"] else parts
    absolute_elsewhere = str(value).startswith("/") and parts[:1] != ["mnt"]
    if absolute_elsewhere or not under or ".." in parts:
        raise _invalid(f"invalid output_dir specified: '{value}', must be a directory under /mnt")


@cache
def _known_keys() -> dict[str, dict[str, list[str]]]:
    content: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("keys.json").read_bytes())
    return content


def _did_you_mean(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _invalid(what: str) -> InputError:
    return InputError(
        "ConfigInvalid", f"training_config.yaml: {what}", "correct the ConfigMap that tuning.config names"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
