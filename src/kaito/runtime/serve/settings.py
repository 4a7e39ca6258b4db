"""What the server was told: its environment (docs/architecture.md, the pod contract) and `inference_config.yaml`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from kaito.runtime.errors import InputError
from kaito.runtime.step import Step

LINGER = 3.0  # seconds until the nodes of a cluster have heard that a pod ends
# Top-level keys of inference_config.yaml that KAITO knows, and why nothing is done with them here.
WITHOUT_EFFECT: Mapping[str, str] = {
    "max_probe_steps": "the engine finds the context length by itself",
    "kv_cache_cpu_memory_utilization": "keys and values are not moved to the CPU's memory",
}
CHAT_DEFAULTS = ("", "v0.3")
ENGINES = ("auto", "vllm", "transformers")


@dataclass(frozen=True)
class AdapterSetting:
    name: str
    folder: Path
    strength: float


@dataclass(frozen=True)
class Settings:
    host: str
    port: int
    model_dir: Path
    model_name: str
    default_model: str
    engine: Literal["auto", "vllm", "transformers"]
    adapters: tuple[AdapterSetting, ...] = ()
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    """The `vllm:` map of inference_config.yaml; the built-in engine reads the keys that it has too."""
    api_keys: frozenset[str] = frozenset()
    can_load_adapters: bool = False
    chat_defaults: str = ""
    """`v0.3` for those of KAITO v0.3's /chat, or nothing for ours."""
    max_waiting: int = 0
    """Requests that may wait; 0 leaves it to the engine."""
    max_body: int = 4 << 20  # bytes
    request_timeout: float = 600.0  # seconds
    linger: float = 0.0  # seconds to go on answering after SIGTERM
    drain_timeout: float = 25.0  # seconds; with the linger and the end of the engine within a pod's 30


def read_settings(step: Step) -> Settings:
    """Raises InputError for what cannot be right."""
    environ = step.environ
    preset = environ.get("KAITO_PRESET", "")
    name = environ.get("KAITO_SERVED_MODEL_NAME") or preset
    if not name:
        raise InputError("EnvironmentMissing", "neither KAITO_SERVED_MODEL_NAME nor KAITO_PRESET is set", "set one")
    engine = environ.get("KAITO_ENGINE") or "auto"
    if engine not in ENGINES:
        raise InputError("EnvironmentInvalid", f"KAITO_ENGINE is {engine!r}, not one of {', '.join(ENGINES)}")
    adapters = _adapters(step)
    config = _config(step)
    default = environ.get("KAITO_DEFAULT_MODEL") or name
    known = [name, *(adapter.name for adapter in adapters)]
    if default not in known:
        raise InputError(
            "EnvironmentInvalid",
            f"KAITO_DEFAULT_MODEL is {default!r}; served are {', '.join(known)}",
            "name one of them",
        )
    return Settings(
        host=environ.get("KAITO_HOST") or "0.0.0.0",  # noqa: S104 - a pod listens on its own address; the contract's default
        port=int(step.number("KAITO_PORT", 5000)),
        model_dir=_model_dir(step),
        model_name=name,
        default_model=default,
        engine=engine,  # type: ignore[arg-type]  # checked above
        adapters=adapters,
        engine_options=_engine_options(config),
        chat_defaults=_chat_defaults(config),
        api_keys=_api_keys(step),
        can_load_adapters=environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").lower() in ("1", "true"),
        max_waiting=int(step.number("KAITO_MAX_WAITING", 0)),
        request_timeout=step.number("KAITO_REQUEST_TIMEOUT", 600),
        linger=step.number("KAITO_LINGER", LINGER if "KUBERNETES_SERVICE_HOST" in environ else 0),
        drain_timeout=step.number("KAITO_DRAIN_TIMEOUT", 25),
    )


def _model_dir(step: Step) -> Path:
    folder = step.path("KAITO_MODEL_DIR")
    if not (folder / "config.json").is_file():
        raise InputError("ModelInvalid", f"{folder} holds no config.json", "the step `model` brings the weights there")
    return folder


def _adapters(step: Step) -> tuple[AdapterSetting, ...]:
    """Those that KAITO_ADAPTERS names; without it, every sub-folder of KAITO_ADAPTERS_DIR with strength 1."""
    root = step.optional_path("KAITO_ADAPTERS_DIR")
    declared = _declared(step.environ.get("KAITO_ADAPTERS", ""))
    if root is None:
        if declared:
            raise InputError("EnvironmentMissing", "KAITO_ADAPTERS names adapters, but KAITO_ADAPTERS_DIR is not set")
        return ()
    if declared is None:
        declared = {path.name: 1.0 for path in sorted(root.iterdir()) if (path / "adapter_config.json").is_file()}
    for name in declared:
        if "/" in name or name in (".", "..") or not (root / name / "adapter_config.json").is_file():
            raise InputError(
                "AdapterMissing", f"there is no adapter {name!r} in {root}", "the step `adapter` brings it there"
            )
    return tuple(AdapterSetting(name, root / name, strength) for name, strength in declared.items())


def _declared(text: str) -> dict[str, float] | None:
    if not text:
        return None
    try:
        entries = json.loads(text)
        return {str(entry["name"]): float(entry.get("strength") or 1.0) for entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            "EnvironmentInvalid", f"KAITO_ADAPTERS cannot be read: {error!r}", 'write [{"name": N, "strength": "1.0"}]'
        ) from error


def _config(step: Step) -> Mapping[str, Any]:
    """`inference_config.yaml`; keys without effect are said."""
    path = step.optional_path("KAITO_CONFIG")
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(
            "ConfigInvalid", f"inference_config.yaml cannot be read: {error}", "correct the ConfigMap"
        ) from error
    if not isinstance(content, dict):
        raise InputError("ConfigInvalid", "inference_config.yaml is not a map", "write `vllm:` and keys below it")
    for key in sorted({str(key) for key in content} - {"vllm", "chat_defaults"}):
        why = WITHOUT_EFFECT.get(key, "it is not known")
        step.say("a key of inference_config.yaml has no effect", key=key, why=why)
    return content


def _chat_defaults(config: Mapping[str, Any]) -> str:
    given = config.get("chat_defaults") or ""
    if given not in CHAT_DEFAULTS:
        raise InputError(
            "ConfigInvalid", f"inference_config.yaml: chat_defaults is {given!r}", "write v0.3, or leave it out"
        )
    return str(given)


def _engine_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    options = config.get("vllm") or {}
    if not isinstance(options, dict):
        raise InputError(
            "ConfigInvalid", "inference_config.yaml: `vllm` is not a map", "write `vllm:` and keys below it"
        )
    return {_flag(str(key)): value for key, value in options.items()}


def _flag(key: str) -> str:
    """`max_model_len` as `max-model-len`; in a dotted key what follows the dot names a field, and is left as it is."""
    flag, dot, fields = key.removeprefix("--").partition(".")
    return flag.replace("_", "-") + dot + fields


def _api_keys(step: Step) -> frozenset[str]:
    """One key per line in the file that KAITO_API_KEYS names (a mounted secret); without it nobody is asked."""
    path = step.optional_path("KAITO_API_KEYS")
    if path is None:
        return frozenset()
    keys = frozenset(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not keys:
        raise InputError("EnvironmentInvalid", f"{path} (KAITO_API_KEYS) holds no key", "write one key per line")
    return keys
