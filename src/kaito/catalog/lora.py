"""Where LoRA adapters go: the linear layers of an architecture, and how wide they are. Data: `data/lora.csv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources

from kaito.catalog.architecture import Architecture


def lora_targets(architecture: str) -> tuple[str, ...]:
    """Names of the linear layers that `target_modules: all-linear` means; empty for an architecture that is not known.

    Known ones are those of the pinned transformers; any other causal model is asked when it is loaded.
    """
    return _targets().get(architecture, ())


def adapter_width(shape: Architecture) -> int:
    """The sum of in + out over every linear layer of the model: an adapter of rank r has r times as many parameters.

    The experts of a mixture are one tensor, not linear layers, and get none; shared experts and dense layers do.
    Layers with a state are taken to be as wide as those with attention.
    """
    fused = set(lora_targets_of_family(shape.family))
    return shape.layers * _attention(shape, fused) + _feed_forward(shape, fused)


def lora_targets_of_family(family: str) -> tuple[str, ...]:
    """By model_type: `phi3` is Phi3ForCausalLM."""
    plain = family.removesuffix("_text").replace("_", "").replace("-", "").lower()
    wanted = {plain + "forcausallm", plain + "lmheadmodel"}
    return next((names for name, names in _targets().items() if name.lower().replace("_", "") in wanted), ())


def _attention(shape: Architecture, names: set[str]) -> int:
    hidden, query = shape.hidden, shape.heads * shape.head_dim
    if shape.latent is not None:
        return _latent(shape)
    key_value = shape.kv_heads * shape.head_dim
    if names & {"qkv_proj", "query_key_value", "c_attn", "Wqkv"}:
        return hidden + query + 2 * key_value + query + hidden
    return 2 * (hidden + query) + 2 * (hidden + key_value)


def _latent(shape: Architecture) -> int:
    latent, heads, hidden = shape.latent, shape.heads, shape.hidden
    assert latent is not None
    queries = heads * (latent.nope_dim + latent.rope_dim)
    down = hidden + latent.kv_rank + latent.rope_dim
    up = latent.kv_rank + heads * (latent.nope_dim + latent.value_dim)
    out = heads * latent.value_dim + hidden
    if latent.q_rank is None:
        return hidden + queries + down + up + out
    return hidden + latent.q_rank + latent.q_rank + queries + down + up + out


def _feed_forward(shape: Architecture, names: set[str]) -> int:
    def width(inner: int) -> int:
        if "gate_up_proj" in names:
            return shape.hidden + 2 * inner + inner + shape.hidden
        return (3 if shape.traits.gated else 2) * (shape.hidden + inner)

    experts = shape.experts
    if experts is None:
        return shape.layers * width(shape.intermediate)
    sparse = shape.layers - experts.dense_layers
    shared = width(experts.shared_width) if experts.shared_width else 0
    gate = shape.hidden + 1 if shape.traits.shared_gate else 0
    return experts.dense_layers * width(shape.intermediate) + sparse * (shared + gate)


@cache
def _targets() -> Mapping[str, tuple[str, ...]]:
    text = resources.files("kaito.catalog").joinpath("data/lora.csv").read_text()
    return {row["architecture"]: tuple(row["targets"].split()) for row in csv.DictReader(text.splitlines())}
