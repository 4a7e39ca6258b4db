"""Write the keys that training_config.yaml may hold, out of the installed TRL, PEFT and transformers.

The checker must know them without loading those libraries (ten seconds), so they are kept as data beside it.
Run again after an upgrade: python scripts/list_tuning_keys.py
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig

TARGET = Path(__file__).parents[1] / "src" / "kaito" / "runtime" / "tune" / "keys.json"
# Annotations that BitsAndBytesConfig leaves out; from its documentation.
QUANTIZATION = {
    "bnb_4bit_compute_dtype": "str",
    "bnb_4bit_quant_storage": "str",
    "bnb_4bit_quant_type": "str",
    "llm_int8_skip_modules": "list",
    "llm_int8_threshold": "float",
}


def type_names(annotation: Any) -> list[str]:
    """The plain YAML types of an annotation: bool, int, float, str, list, dict, null."""
    text = str(annotation)
    found = set()
    for name, pattern in {
        "bool": r"\bbool\b", "int": r"\bint\b", "float": r"\bfloat\b",
        "str": r"\bstr\b|Literal|Strategy|OptimizerNames|SchedulerType|HubStrategy|DebugOption|FSDPOption",
        "list": r"\blist\b|\bList\b|\btuple\b|\bset\b", "dict": r"\bdict\b|\bDict\b|Config\b",
    }.items():  # fmt: skip
        if re.search(pattern, re.sub(r"(list|dict)\[[^\]]*(\[[^\]]*\])?[^\]]*\]", r"\1", text)):
            found.add(name)
    if "None" in text or "Optional" in text:
        found.add("null")
    return sorted(found - {"null"}) + (["null"] if "null" in found else [])


def fields_of(cls: Any) -> dict[str, list[str]]:
    return {f.name: type_names(f.type) for f in sorted(dataclasses.fields(cls), key=lambda f: f.name) if f.init}


def parameters_of(cls: Any) -> dict[str, list[str]]:
    found = {}
    for name, parameter in sorted(inspect.signature(cls.__init__).parameters.items()):
        if name not in ("self", "kwargs"):
            given = parameter.default
            kind = QUANTIZATION.get(name) or (type(given).__name__ if given is not None else "str")
            found[name] = [kind, "null"]
    return found


def collect() -> dict[str, dict[str, list[str]]]:
    return {
        "TrainingArguments": fields_of(SFTConfig),
        "LoraConfig": fields_of(LoraConfig),
        "QuantizationConfig": parameters_of(BitsAndBytesConfig),
    }


def main() -> int:
    TARGET.write_text(json.dumps(collect(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
