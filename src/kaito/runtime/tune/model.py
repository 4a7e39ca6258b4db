"""The base model, quantized where asked, and the LoRA adapter on it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from kaito.runtime.errors import InputError
from kaito.runtime.tune.config import ModelConfig, TuningConfig
from kaito.runtime.tune.device import DTYPES, SHORT, Device

# Some architectures fuse what others keep apart; configs are written with either's names.
FUSED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
SPLIT = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
# The defaults of KAITO's templates, but for target_modules: every linear layer learns more than the attention alone.
LORA_DEFAULTS: dict[str, Any] = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
NF4_DEFAULTS: dict[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}


def load_tokenizer(folder: Path, config: ModelConfig) -> Any:
    """The tokenizer, with the chat template that ModelConfig names if any. Raises InputError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _bad_model(folder, "tokenizer", error) from error
    if config.chat_template:
        tokenizer.chat_template = _template(config.chat_template)
    return tokenizer


def load_model(folder: Path, config: TuningConfig, method: str, device: Device) -> Any:
    """The base model on its device: quantized for qlora, in the device's precision otherwise. Raises InputError."""
    options: dict[str, Any] = {"dtype": device.dtype, "local_files_only": True}
    if method == "qlora":
        options["quantization_config"] = quantization(config.quantization, device)
    if config.model.attn_implementation:
        options["attn_implementation"] = config.model.attn_implementation
    if device.is_cuda:
        options["device_map"] = {"": torch.cuda.current_device()}
    try:
        model_config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=config.model.trust_remote_code
        )
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=model_config, trust_remote_code=config.model.trust_remote_code, **options
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _bad_model(folder, "model", error) from error
    model.config.use_cache = False
    return model


def quantization(given: Mapping[str, Any], device: Device) -> BitsAndBytesConfig:
    """NF4 with double quantization unless the config says otherwise; computed in the device's precision."""
    options = dict(given) if given else dict(NF4_DEFAULTS)
    for key in ("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"):
        name = str(options.get(key) or "auto")
        known = DTYPES.get(SHORT.get(name, name).removeprefix("torch."))
        if name == "auto" or (key == "bnb_4bit_compute_dtype" and (not device.is_cuda or known is torch.bfloat16)):
            options.pop(key, None)
        elif known is not None:
            options[key] = known
    options.setdefault("bnb_4bit_compute_dtype", device.dtype)
    try:
        return BitsAndBytesConfig(**options)
    except (TypeError, ValueError) as error:
        raise _bad_config("QuantizationConfig", error) from error


def lora_config(given: Mapping[str, Any], model: Any) -> LoraConfig:
    """PEFT's config with our defaults; names of target modules are fitted to the architecture. Raises InputError."""
    options = {**LORA_DEFAULTS, **given}
    options["task_type"] = "CAUSAL_LM"
    names = {name.rpartition(".")[2] for name, _ in model.named_modules() if name}
    wanted = options.get("target_modules")
    if wanted == "all-linear":
        options["target_modules"] = linear_modules(model, options.get("modules_to_save") or ())
    elif isinstance(wanted, list):
        options["target_modules"] = sorted(fit_target_modules(wanted, names))
    for module in options.get("modules_to_save") or ():
        if module not in names:
            raise _unknown_module("modules_to_save", module, names)
    try:
        return LoraConfig(**options)
    except (TypeError, ValueError) as error:
        raise _bad_config("LoraConfig", error) from error


def linear_modules(model: Any, left_out: Iterable[str]) -> list[str]:
    """The names of all linear layers but the output layer, quantized ones too: short, as other engines read them.

    GPT-2's Conv1D is a linear layer under another name.
    """
    head = model.get_output_embeddings()
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
    }
    return sorted(names - set(left_out))


def save_adapter(model: Any, folder: Path, preset: str) -> None:
    """Write the adapter's two files, the same bytes for the same adapter; the base is called by its preset."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_bytes())
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    config["base_model_name_or_path"] = preset or None
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def fit_target_modules(wanted: Iterable[str], names: set[str]) -> set[str]:
    """The wanted names as this architecture spells them: fused or apart. Raises InputError for one it has not."""
    fitted: set[str] = set()
    for name in wanted:
        last = name.rpartition(".")[2]
        if last in names:
            fitted.add(name)
        elif FUSED.get(last) in names:
            fitted.add(FUSED[last])
        elif set(SPLIT.get(last, ("-",))) <= names:
            fitted.update(SPLIT[last])
        else:
            raise _unknown_module("target_modules", name, names)
    return fitted


def _unknown_module(key: str, name: str, names: set[str]) -> InputError:
    near = difflib.get_close_matches(name, names, 3, 0.3)
    hint = f"the nearest of its modules: {', '.join(near)}" if near else "use all-linear"
    return InputError(
        "ConfigInvalid", f"training_config.yaml: LoraConfig.{key}: the model has no module {name!r}", hint
    )


def _template(text: str) -> str:
    """Inline when it holds jinja, else a file."""
    if "{" in text or "\n" in text:
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            "ConfigInvalid", f"training_config.yaml: ModelConfig.chat_template: cannot read {text}", "write it inline"
        ) from error


def _bad_model(folder: Path, what: str, error: Exception) -> InputError:
    return InputError(
        "ModelInvalid", f"the {what} in {folder} cannot be loaded: {_first_line(error)}", "check the weights"
    )


def _bad_config(section: str, error: Exception) -> InputError:
    return InputError(
        "ConfigInvalid", f"training_config.yaml: {section}: {_first_line(error)}", "correct the ConfigMap"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
