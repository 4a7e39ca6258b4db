"""What a Workspace's ConfigMap, in the same manifests, says of memory: batch, rank, length, bits, context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kaito.api.config_validation import check_inference_config, check_training_config
from kaito.api.faults import Fault
from kaito.api.workspace import Workspace
from kaito.cli.errors import UsageError
from kaito.estimate.tuning import DEFAULT_LENGTH, DEFAULT_RANK, TuningSettings

KEYS = {True: "training_config.yaml", False: "inference_config.yaml"}


@dataclass(frozen=True)
class Asked:
    """`tuning` None: the defaults. `warning` names a ConfigMap that the manifests do not hold."""

    tuning: TuningSettings | None = None
    context: int | None = None
    cache_bytes: int = 2
    warning: str = ""


def read_asked(workspace: Workspace, manifests: list[dict[str, Any]]) -> Asked:
    """Raises UsageError for a ConfigMap that would be refused."""
    work = workspace.tuning or workspace.inference
    name = work.config if work else ""
    if not name:
        return Asked()
    found = [m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == name]
    if not found:
        return Asked(warning=f"the ConfigMap {name} is not among the manifests, so defaults are planned with")
    key = KEYS[workspace.tuning is not None]
    text = (found[0].get("data") or {}).get(key)
    if not isinstance(text, str):
        raise UsageError(f"the ConfigMap {name} has no key {key}", "add it, or correct the name in the Workspace")
    if workspace.tuning is None:
        _refuse(name, check_inference_config(text, None))
        return _serving(_section(yaml.safe_load(text), "vllm"))
    method = workspace.tuning.method.lower()
    _refuse(name, check_training_config(text, method))
    return Asked(tuning=_tuning(_section(yaml.safe_load(text), "training_config"), method))


def _refuse(name: str, faults: list[Fault]) -> None:
    if faults:
        raise UsageError(f"the ConfigMap {name}: " + "; ".join(str(fault) for fault in faults))


def _tuning(config: Mapping[str, Any], method: str) -> TuningSettings:
    lora, training = _section(config, "LoraConfig"), _section(config, "TrainingArguments")
    in_8bit = _section(config, "QuantizationConfig").get("load_in_8bit") is True
    length = _count(training, "max_length") or _count(training, "max_seq_length") or DEFAULT_LENGTH
    return TuningSettings(
        rank=_count(lora, "r") or DEFAULT_RANK,
        batch=_count(training, "per_device_train_batch_size") or 1,
        length=length,
        checkpointing=training.get("gradient_checkpointing") is not False,
        base_bits=8 if in_8bit else 4 if method == "qlora" else 16,
    )


def _serving(vllm: Mapping[str, Any]) -> Asked:
    is_fp8 = str(vllm.get("kv-cache-dtype", "auto")).startswith("fp8")
    return Asked(context=_count(vllm, "max-model-len"), cache_bytes=1 if is_fp8 else 2)


def _section(config: Any, name: str) -> Mapping[str, Any]:
    found = config.get(name) if isinstance(config, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _count(section: Mapping[str, Any], name: str) -> int | None:
    value = section.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
