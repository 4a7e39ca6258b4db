"""Adapters as vLLM takes them: it has no strength, so a strength other than 1 goes into the adapter's own scaling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaito.runtime.errors import InputError
from kaito.runtime.serve.engines.vllm.command import LoraModule
from kaito.runtime.serve.settings import AdapterSetting


def lora_modules(adapters: Sequence[AdapterSetting], scratch: Path) -> list[LoraModule]:
    """One module per adapter; those with a strength are rewritten into `scratch`. Raises InputError."""
    return [_module(adapter, scratch) for adapter in adapters]


def _module(adapter: AdapterSetting, scratch: Path) -> LoraModule:
    config = _config(adapter)
    rank = config.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise _bad(adapter, f"its rank r is {rank!r}")
    patterns = config.get("rank_pattern") or {}
    folder = adapter.folder if adapter.strength == 1.0 else _scaled(adapter, config, scratch)
    return LoraModule(adapter.name, folder, max([rank, *(int(one) for one in patterns.values())]))


def _scaled(adapter: AdapterSetting, config: dict[str, Any], scratch: Path) -> Path:
    """The same weights under a config whose alpha carries the strength: LoRA's scale is alpha / r, so it is linear."""
    patterns = {key: value * adapter.strength for key, value in (config.get("alpha_pattern") or {}).items()}
    alpha = float(config.get("lora_alpha", config["r"])) * adapter.strength
    folder = scratch / adapter.name
    folder.mkdir(parents=True)
    for path in adapter.folder.iterdir():
        if path.name != "adapter_config.json":
            (folder / path.name).symlink_to(path.resolve())
    changed = {**config, "lora_alpha": alpha, "alpha_pattern": patterns}
    (folder / "adapter_config.json").write_text(json.dumps(changed), encoding="utf-8")
    return folder


def _config(adapter: AdapterSetting) -> dict[str, Any]:
    try:
        config = json.loads((adapter.folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _bad(adapter, f"adapter_config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise _bad(adapter, "adapter_config.json is not a map")
    return config


def _bad(adapter: AdapterSetting, what: str) -> InputError:
    return InputError("AdapterInvalid", f"the adapter {adapter.name!r} cannot be served: {what}", "check its files")
