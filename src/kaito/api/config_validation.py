"""The text of a user's ConfigMap: `training_config.yaml` and `inference_config.yaml`.

What can be known without the model's libraries is said here, with the path of the key; the runtime checks each setting
against the library that takes it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import yaml

from kaito.api.faults import Fault

SECTIONS = (
    "ModelConfig",
    "QuantizationConfig",
    "LoraConfig",
    "TrainingArguments",
    "DatasetConfig",
    "DataCollator",
)
INFERENCE_KEYS = ("vllm", "max_probe_steps", "kv_cache_cpu_memory_utilization", "chat_defaults")
"""KAITO's own, and `chat_defaults`, which is for clients of KAITO v0.3."""
REASON = "ConfigInvalid"


def check_training_config(text: str, method: str) -> list[Fault]:
    """`method` is "lora" or "qlora"."""
    parsed, fault = _mapping(text, "training_config.yaml")
    if fault:
        return [fault]
    config = parsed.get("training_config")
    if not isinstance(config, dict):
        hint = "Put the six sections under training_config:."
        return [Fault("training_config", "is not a mapping of sections", hint, REASON)]
    return _with_lines(text, [*_sections(config), *_quantization(config, method), *_output_dir(config)])


def check_inference_config(text: str, context_length: int | None) -> list[Fault]:
    """`context_length` is the model's longest context in tokens; None where it is not known."""
    parsed, fault = _mapping(text, "inference_config.yaml")
    if fault:
        return [fault]
    return _with_lines(text, [*_inference_keys(parsed), *_vllm(parsed.get("vllm"), context_length)])


def _with_lines(text: str, faults: list[Fault]) -> list[Fault]:
    """Each fault with the line on which its key stands, or that of the nearest key above it that is there."""
    if not faults:
        return faults
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return [replace(fault, line=_line_of(root, fault.field.split("."))) for fault in faults]


def _line_of(node: yaml.Node | None, path: list[str]) -> int:
    line = 0
    for name in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((key, value) for key, value in pairs if key.value in (name, name.replace("-", "_"))), None)
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _mapping(text: str, name: str) -> tuple[dict[str, Any], Fault | None]:
    try:
        parsed = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name} line {mark.line + 1}" if mark else name
        return {}, Fault(where, f"is not YAML: {error.problem or error}", "Mend that line.", REASON)
    except yaml.YAMLError as error:
        return {}, Fault(name, f"is not YAML: {error}", "Mend it.", REASON)
    if not isinstance(parsed, dict):
        return {}, Fault(name, "is not a mapping", "Begin it with a key.", REASON)
    return parsed, None


def _nearest(name: str, known: tuple[str, ...]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {found[0]}?" if found else f"Use one of {', '.join(known)}."


def _sections(config: Mapping[str, Any]) -> Iterator[Fault]:
    for name, section in config.items():
        where = f"training_config.{name}"
        if name not in SECTIONS:
            yield Fault(where, "is not a section", _nearest(str(name), SECTIONS), REASON)
        elif section is not None and not isinstance(section, dict):
            yield Fault(where, "is not a mapping", "Write its settings as key: value, one a line.", REASON)


def _quantization(config: Mapping[str, Any], method: str) -> Iterator[Fault]:
    section = config.get("QuantizationConfig") or {}
    if not isinstance(section, dict):
        return
    where = "training_config.QuantizationConfig"
    flags = {key: section.get(key) for key in ("load_in_4bit", "load_in_8bit")}
    for key, value in flags.items():
        if value is not None and not isinstance(value, bool):
            yield Fault(f"{where}.{key}", f'"{value}" is not true or false', "Write true or false.", REASON)
            return
    chosen = [key for key, value in flags.items() if value]
    if len(chosen) > 1:
        yield Fault(where, "load_in_4bit and load_in_8bit are both true", "Keep one of them.", REASON)
    elif chosen and method == "lora":
        yield Fault(f"{where}.{chosen[0]}", "method lora does not quantize", "Use method qlora.", REASON)
    elif not chosen and method == "qlora":
        yield Fault(where, "method qlora needs a quantization", "Set load_in_4bit: true.", REASON)


def _output_dir(config: Mapping[str, Any]) -> Iterator[Fault]:
    section = config.get("TrainingArguments") or {}
    folder = section.get("output_dir") if isinstance(section, dict) else None
    if folder is None:
        return
    where = "training_config.TrainingArguments.output_dir"
    path = PurePosixPath("/mnt") / folder if isinstance(folder, str) else None
    if path is None or not path.is_relative_to("/mnt") or path == PurePosixPath("/mnt") or ".." in path.parts:
        yield Fault(where, f'"{folder}" is not a folder under /mnt', "Use /mnt/results, or leave it out.", REASON)


def _inference_keys(parsed: Mapping[str, Any]) -> Iterator[Fault]:
    for key in parsed:
        if key not in INFERENCE_KEYS:
            yield Fault(str(key), "is not a key of an inference config", _nearest(str(key), INFERENCE_KEYS), REASON)


def _vllm(section: Any, context_length: int | None) -> Iterator[Fault]:
    if section is None:
        return
    if not isinstance(section, dict):
        yield Fault("vllm", "is not a mapping", "Write the engine's flags as key: value, one a line.", REASON)
        return
    length = section.get("max-model-len", section.get("max_model_len"))
    if length in (None, "auto"):
        return
    where = "vllm.max-model-len"
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        yield Fault(where, f'"{length}" is not a number of tokens', "Use a whole number, or leave it out.", REASON)
    elif context_length and length > context_length:
        message = f"{length} is more than the {context_length} tokens that the model can take"
        yield Fault(where, message, f"Use {context_length} or less.", REASON)
