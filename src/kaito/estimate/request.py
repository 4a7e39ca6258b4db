"""What a Workspace and its config ask of memory, in one form for `kaito plan`, the controller and admission.

A config is the text of `training_config.yaml` or `inference_config.yaml`. It is read leniently: whether it is valid is
checked elsewhere, with sentences for people; a value that cannot be one counts as not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import yaml

from kaito.api.workspace import Workspace, runtime_of
from kaito.catalog.engine import engine_flags
from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Model, tuning_config
from kaito.estimate import kv
from kaito.estimate.layout import Parallelism
from kaito.estimate.result import Estimate
from kaito.estimate.serving import DEFAULT_CONTEXT, SEQUENCES, STEP_TOKENS, USABLE_SHARE, Demand, plan_serving
from kaito.estimate.tuning import TuningSettings, estimate_tuning

RANK, BATCH, LENGTH, EPOCHS = 8, 4, 1024, 3.0
"""What the `tune` step takes where a config of the user's own leaves them out (`runtime/tune`)."""


@dataclass(frozen=True)
class Request:
    """What is estimated: one of the two. `config` is the user's text; empty for the preset's defaults."""

    serving: Demand | None = None
    tuning: TuningSettings | None = None
    method: str = ""


def read_request(workspace: Workspace, model: Model, config: str = "", context: int | None = None) -> Request:
    """`context` stands above the config's, for who wants to know of another."""
    if workspace.tuning is not None:
        method = workspace.tuning.method.lower()
        text = config or _defaults(model, method)
        return Request(tuning=_tuning(text, method), method=method)
    demand = _serving(config, str(engine_flags(model).get("kv-cache-dtype", "auto")))
    adapters = len(workspace.inference.adapters) if workspace.inference else 0
    runtime = runtime_of(workspace)
    return Request(serving=replace(demand, context=context or demand.context, adapters=adapters, runtime=runtime))


@lru_cache(maxsize=4096)
def estimate_request(request: Request, model: Model, instance: InstanceType) -> Estimate:
    """For tuning, the batch that the run ends at counts: it halves one that does not fit.

    Answers are kept, since the controller asks again at every look at a Workspace.
    """
    if request.tuning is None:
        return plan_serving(model, instance, request.serving or Demand())
    found = estimate_tuning(model, instance, method=request.method, settings=request.tuning)
    if found.fits or request.tuning.batch == 1:
        return found
    one = replace(request.tuning, batch=1)
    return estimate_tuning(model, instance, method=request.method, settings=one)


def served_after(request: Request, model: Model, instance: InstanceType) -> Estimate | None:
    """The tuned model on the same node, with its adapter; None where it is not a tuning."""
    if request.tuning is None:
        return None
    return plan_serving(model, instance, Demand(adapters=1, adapter_rank=request.tuning.rank))


def epochs_of(workspace: Workspace, model: Model, config: str = "") -> float:
    """How often the data are gone through; 0 where nothing is tuned."""
    if workspace.tuning is None:
        return 0.0
    text = config or _defaults(model, workspace.tuning.method.lower())
    given = _section(_section(_parsed(text), "training_config"), "TrainingArguments").get("num_train_epochs")
    return float(given) if isinstance(given, int | float) and given > 0 else EPOCHS


@lru_cache(maxsize=256)
def _defaults(model: Model, method: str) -> str:
    return tuning_config(model, method)


@lru_cache(maxsize=1024)
def _tuning(text: str, method: str) -> TuningSettings:
    config = _section(_parsed(text), "training_config")
    lora, training = _section(config, "LoraConfig"), _section(config, "TrainingArguments")
    in_8bit = _section(config, "QuantizationConfig").get("load_in_8bit") is True
    targets = lora.get("target_modules")
    return TuningSettings(
        rank=_count(lora, "r") or RANK,
        batch=_count(training, "per_device_train_batch_size") or BATCH,
        length=_count(training, "max_length") or _count(training, "max_seq_length") or LENGTH,
        checkpointing=training.get("gradient_checkpointing") is not False,
        base_bits=8 if in_8bit else 4 if method == "qlora" else 16,
        targets=tuple(str(name) for name in targets) if isinstance(targets, list) else (),
    )


@lru_cache(maxsize=1024)
def _serving(text: str, cache_type: str) -> Demand:
    """`cache_type` is what the model's own flags say of the KV cache."""
    flags = {str(key).replace("_", "-"): value for key, value in _section(_parsed(text), "vllm").items()}
    share = flags.get("gpu-memory-utilization")
    is_fp8 = str(flags.get("kv-cache-dtype", cache_type)).startswith("fp8")
    return Demand(
        context=_count(flags, "max-model-len") or DEFAULT_CONTEXT,
        cache_bytes=1 if is_fp8 else kv.CACHE_BYTES,
        utilization=float(share) if isinstance(share, int | float) and 0 < share <= 1 else USABLE_SHARE,
        step_tokens=_count(flags, "max-num-batched-tokens") or STEP_TOKENS,
        sequences=_count(flags, "max-num-seqs") or SEQUENCES,
        parallelism=Parallelism(
            _count(flags, "tensor-parallel-size") or 0,
            _count(flags, "pipeline-parallel-size") or 0,
            _count(flags, "data-parallel-size") or 0,
        ),
    )


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return None


def _section(config: Any, name: str) -> Mapping[str, Any]:
    found = config.get(name) if isinstance(config, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _count(section: Mapping[str, Any], name: str) -> int | None:
    value = section.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
