"""Which engine serves: the one that was asked for, or the best that runs here."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from kaito.runtime.errors import InputError
from kaito.runtime.serve.engines.base import Engine
from kaito.runtime.serve.settings import Settings
from kaito.runtime.step import Step

# Keys of the `vllm:` map that the built-in engine has too -> the name of its own setting.
LIMITS = {"max-num-seqs": "max_running", "max-num-batched-tokens": "step_tokens"}


def choose_engine(settings: Settings, step: Step) -> Engine:
    """Raises InputError when the engine that was asked for is not installed."""
    wanted = settings.engine
    if wanted == "vllm":
        raise InputError(
            "EngineUnsupported",
            "the vllm engine is not built into this release",
            "set KAITO_ENGINE=transformers, or leave it at auto",
        )
    return builtin_engine(settings, step)


def builtin_engine(settings: Settings, step: Step) -> Engine:
    if importlib.util.find_spec("torch") is None:
        raise InputError("EngineMissing", "torch is not installed", "install kaito[serve]")
    # Loaded only here: the HTTP surface starts, and its settings are checked, without torch.
    from kaito.runtime.serve.engines.builtin.engine import AdapterSource, BuiltinEngine, BuiltinOptions

    options = settings.engine_options
    return BuiltinEngine(
        BuiltinOptions(
            folder=settings.model_dir,
            name=settings.model_name,
            adapters=tuple(AdapterSource(one.name, one.folder, one.strength) for one in settings.adapters),
            dtype=str(options.get("dtype", "auto")),
            max_length=_count(options, "max-model-len"),
            kv_bytes=_kv_bytes(step),
            threads=int(step.number("KAITO_THREADS", 0)) or None,
            limits=_limits(options, step),
        )
    )


def _limits(options: Mapping[str, Any], step: Step) -> dict[str, int]:
    limits = {ours: count for key, ours in LIMITS.items() if (count := _count(options, key)) is not None}
    waiting = int(step.number("KAITO_MAX_WAITING", 0))
    if waiting:
        limits["max_waiting"] = waiting
    if options.get("enable-prefix-caching") is False:
        limits["kept_prefixes"] = 0
    return limits


def _kv_bytes(step: Step) -> int | None:
    return int(step.number("KAITO_KV_CACHE_GIB", 0) * (1 << 30)) or None


def _count(options: Mapping[str, Any], key: str) -> int | None:
    value = options.get(key)
    if value is None or value in ("auto", -1):
        return None
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1:
        raise InputError(
            "ConfigInvalid", f"inference_config.yaml: vllm.{key} is {value!r}, not a positive whole number"
        )
    return count
