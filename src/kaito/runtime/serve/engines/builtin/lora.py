"""LoRA adapters beside the base weights: each token of a step gets the adapter of its own request.

The base stays as it is; a hook on each adapted layer adds `(x A^T) B^T` for the rows whose request named that adapter.
Rows of one adapter stand together in a step, so that each adapter costs two small products per layer. Format: PEFT's
`adapter_config.json` and `adapter_model.safetensors`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kaito.runtime.errors import InputError
from kaito.runtime.serve.engines.builtin.packed import Int8Linear, PackedLinear, linear_weight

# Parts of PEFT that change the computation in ways this engine does not carry out; each must be unset.
UNSUPPORTED = ("use_dora", "modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters",
               "use_bdlora", "use_qalora", "alora_invocation_tokens", "arrow_config", "kasa_config", "velora_config",
               "monteclora_config", "lora_bias")  # fmt: skip
WEIGHT = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")


@dataclass(frozen=True)
class Pair:
    """The two factors of one layer: `down` [r, in], `up` [out, r] with the scaling already in it."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True)
class Adapter:
    """All pairs of one adapter by the name of the layer."""

    name: str
    pairs: Mapping[str, Pair]

    @classmethod
    def load(cls, name: str, folder: Path, strength: float, like: torch.Tensor) -> Adapter:
        """Read PEFT's files; `strength` scales the whole adapter. Raises InputError that says what is wrong with it."""
        config = _config(name, folder)
        try:
            tensors = load_file(folder / "adapter_model.safetensors")
        except (OSError, SafetensorError) as error:
            raise _bad(name, f"adapter_model.safetensors cannot be read: {error}") from error
        factors: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            match = WEIGHT.match(key)
            if match is None:
                raise _bad(name, f"it holds {key!r}, which is not a LoRA factor of a linear layer")
            factors.setdefault(match["module"], {})[match["side"]] = tensor.to(like.device, like.dtype)
        pairs = {}
        for module, sides in factors.items():
            if set(sides) != {"A", "B"}:
                raise _bad(name, f"layer {module} has only one of its two factors")
            scale = strength * _scaling(config, module, sides["A"].shape[0])
            pairs[module] = Pair(sides["A"].contiguous(), (sides["B"] * scale).contiguous())
        return cls(name, pairs)


@dataclass(frozen=True)
class Group:
    """Rows [start, end) of the step use this adapter."""

    adapter: Adapter
    start: int
    end: int


class LoraLayers:
    """The hooks on one model. `groups` (rows of the step) and `head_groups` (rows of the logits) are set per step."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self._head = _name_of_head(model, self._modules)
        self._hooked: set[str] = set()
        self.groups: Sequence[Group] = ()
        self.head_groups: Sequence[Group] = ()

    def attach(self, adapter: Adapter) -> None:
        """Check that the model has these layers in these shapes, and hook those that are new. Raises InputError."""
        for name, pair in adapter.pairs.items():
            module = self._modules.get(name)
            if module is None:
                raise _bad(adapter.name, f"it adapts the layer {name}, which this model does not have")
            shape = _shape(module)
            if shape is None:
                raise _bad(adapter.name, f"it adapts {name}, a {type(module).__name__}; only linear layers can be")
            if (pair.up.shape[0], pair.down.shape[1]) != shape:
                made = f"{pair.up.shape[0]}x{pair.down.shape[1]}"
                raise _bad(adapter.name, f"its layer {name} is made for {made}, the model's is {shape[0]}x{shape[1]}")
        for name in adapter.pairs.keys() - self._hooked:
            self._modules[name].register_forward_hook(self._hook(name))
            self._hooked.add(name)

    def _hook(self, name: str) -> Any:
        is_head = name == self._head

        def add(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            groups = self.head_groups if is_head else self.groups
            changed = None
            for group in groups:
                pair = group.adapter.pairs.get(name)
                if pair is None:
                    continue
                changed = output if changed is None else changed
                rows = inputs[0][..., group.start : group.end, :]
                changed[..., group.start : group.end, :] += (rows @ pair.down.T) @ pair.up.T
            return changed

        return add


def _config(name: str, folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _bad(name, f"adapter_config.json in {folder} cannot be read: {error}") from error
    if config.get("peft_type") != "LORA":
        raise _bad(name, f"its peft_type is {config.get('peft_type')!r}; only LORA is served")
    used = [key for key in UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    if used:
        raise _bad(name, f"it uses {', '.join(used)}, which the built-in engine does not serve")
    return config


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    """PEFT: alpha / r, or alpha / sqrt(r) for rank-stabilized LoRA; alpha_pattern may name layers of their own."""
    alpha = float(config.get("lora_alpha", rank))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _shape(module: torch.nn.Module) -> tuple[int, int] | None:
    """(out, in) of a linear layer."""
    if isinstance(module, (PackedLinear, Int8Linear, torch.nn.Linear)):
        return int(module.out_features), int(module.in_features)
    weight = linear_weight(module)
    return None if weight is None else (weight.shape[0], weight.shape[1])


def _name_of_head(model: torch.nn.Module, modules: Mapping[str, torch.nn.Module]) -> str:
    getter: Any = getattr(model, "get_output_embeddings", None)
    head = getter() if getter else None
    return next((name for name, module in modules.items() if module is head), "")


def _bad(name: str, what: str) -> InputError:
    return InputError("AdapterInvalid", f"the adapter {name!r} cannot be served: {what}", "check the adapter's files")
