"""What a model's layers keep of the tokens they have seen, read from a `config.json`: groups of layers that keep alike.

Full attention keeps keys and values of every token; a sliding window keeps no more than its width; compressed attention
keeps one entry for several tokens; a linear layer keeps a state of fixed size; layers that share another's cache keep
nothing. Key names are those of the families' configuration classes in transformers 5 and of their published configs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

NOTATION = re.compile(r"(\d+)\*(\d+)x(\d+)(?:@(\d+))?(?:/(\d+))?\Z")
WINDOWED = frozenset({"sliding_attention", "chunked_attention", "hybrid_sliding"})
STATEFUL = frozenset({"linear_attention", "mamba", "mamba2", "recurrent", "conv", "lightning_attention"})
WITHOUT = frozenset({"mlp", "moe", "-", "E"})
"""Layers of their own that hold a feed-forward part alone."""
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "local_attention", "sliding_window_size")


class CacheGroup(msgspec.Struct, frozen=True):
    """`layers` layers that each keep `heads` x `numbers` for every token that they keep.

    Tensor parallelism can cut an entry among `heads` GPUs and no more. `window`: at most so many tokens are kept.
    `ratio`: one entry stands for so many tokens.
    """

    layers: int
    heads: int
    numbers: int
    window: int | None = None
    ratio: int = 1

    def entries(self, tokens: int) -> int:
        """How many entries one layer keeps of a request of `tokens`."""
        kept = min(tokens, self.window) if self.window else tokens
        return -(-kept // self.ratio)


class Kept(msgspec.Struct, frozen=True):
    """All groups of a model, and the bytes that its linear layers keep for one request whatever its length."""

    groups: tuple[CacheGroup, ...]
    state_bytes: int = 0


def parse_groups(text: str) -> tuple[CacheGroup, ...]:
    """The catalogue's notation, layers*heads x numbers with @window and /ratio: `10*4x1024 50*16x512@1024`.

    Raises ValueError.
    """
    found = []
    for word in text.split():
        match = NOTATION.match(word)
        if match is None:
            raise ValueError(f'"{word}" is not layers*heads x numbers[@window][/ratio]')
        layers, heads, numbers, window, ratio = match.groups()
        found.append(
            CacheGroup(int(layers), int(heads), int(numbers), int(window) if window else None, int(ratio or 1))
        )
    return tuple(found)


def kept_by(config: Mapping[str, Any], *, layers: int, heads: int, kv_heads: int, head_dim: int) -> Kept:
    """What the layers of a flat `config` keep."""
    kinds = layer_kinds(config, layers)
    kinds = kinds[: layers - (_count(config, "num_kv_shared_layers") or 0)]
    counted = Counter(kinds)
    groups: list[CacheGroup] = []
    for kind, number in counted.items():
        groups += _groups(config, kind, number, heads=kv_heads, size=head_dim)
    state = sum(number * _state_bytes(config, kind, heads) for kind, number in counted.items())
    return Kept(tuple(groups), state)


def layer_kinds(config: Mapping[str, Any], layers: int) -> list[str]:
    """The kind of each layer, in transformers' words."""
    given = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(given, list):
        return [str(kind) for kind in given]
    pattern = config.get("hybrid_override_pattern")  # Nemotron-H: M is Mamba, * attention, - and E feed-forward
    if isinstance(pattern, str):
        return ["full_attention" if kind == "*" else "mamba" if kind == "M" else kind for kind in pattern]
    full = _full_layers(config, layers)
    if full is not None:
        return ["full_attention" if layer in full else "linear_attention" for layer in range(layers)]
    cycle = config.get("block_types")  # RecurrentGemma
    if isinstance(cycle, list) and cycle:
        names = {"attention": "sliding_attention"}
        return [names.get(str(cycle[i % len(cycle)]), str(cycle[i % len(cycle)])) for i in range(layers)]
    if isinstance(config.get("compress_ratios"), list):
        return [_COMPRESSED.get(ratio, "sliding_attention") for ratio in config["compress_ratios"][:layers]]
    if _has_window(config):
        return _windowed(config, layers)
    alone = "mamba" if config.get("model_type") in ("mamba", "mamba2", "falcon_mamba") else ""
    return [alone or ("hybrid" if "mamba_d_ssm" in config else "full_attention")] * layers


_COMPRESSED = {4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
"""DeepSeek-V4's ratios; 0 is a window alone."""


def _full_layers(config: Mapping[str, Any], layers: int) -> set[int] | None:
    """The layers with attention, of families that name those; None for the others."""
    for name in ("attn_layer_indices", "full_attn_idxs"):  # Bamba, LFM2
        if isinstance(config.get(name), list):
            return {int(layer) for layer in config[name]}
    linear = config.get("linear_attn_config")  # Kimi Linear counts from 1
    if isinstance(linear, Mapping) and isinstance(linear.get("full_attn_layers"), list):
        return {int(layer) - 1 for layer in linear["full_attn_layers"]}
    kinds = config.get("attn_type_list")  # MiniMax: 1 is attention, 0 lightning attention
    if isinstance(kinds, list):
        return {layer for layer, kind in enumerate(kinds) if kind}
    period = _count(config, "attn_layer_period")  # Jamba
    if period:
        offset = _count(config, "attn_layer_offset") or 0
        return {layer for layer in range(layers) if layer % period == offset}
    every = _count(config, "full_attention_interval")  # Qwen3-Next: each fourth layer
    return {layer for layer in range(layers) if (layer + 1) % every == 0} if every else None


def _has_window(config: Mapping[str, Any]) -> bool:
    return bool(window_of(config)) and config.get("use_sliding_window", True) is not False


def _windowed(config: Mapping[str, Any], layers: int) -> list[str]:
    """All layers, but each one at the end of a cycle where the config has a cycle."""
    ropes = config.get("no_rope_layers")  # Llama 4: layers without rotation see everything
    if isinstance(ropes, list) and len(ropes) == layers:
        return ["chunked_attention" if rope else "full_attention" for rope in ropes]
    every = _count(config, "sliding_window_pattern") or _count(config, "_sliding_window_pattern")
    if not every:
        return ["sliding_attention"] * layers
    return ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]


def window_of(config: Mapping[str, Any]) -> int | None:
    return next((size for name in WINDOWS if (size := _count(config, name))), None)


def _groups(config: Mapping[str, Any], kind: str, number: int, *, heads: int, size: int) -> list[CacheGroup]:
    if kind in STATEFUL or kind in WITHOUT:
        return []
    rank = _count(config, "kv_lora_rank")
    if rank and kind not in WINDOWED:
        # MLA: one vector for keys and values, and the rotated part (DeepSeek-V2, arXiv 2405.04434, section 2.1.2).
        groups = [CacheGroup(number, 1, rank + (_count(config, "qk_rope_head_dim") or 0))]
        return groups + _indexer(config, number, 1)
    if kind in _COMPRESSED.values():
        return _compressed(config, kind, number, size)
    if kind in WINDOWED:
        heads = _count(config, "swa_num_key_value_heads") or heads
        values = _count(config, "swa_v_head_dim") or _count(config, "v_head_dim") or size
        size = _count(config, "swa_head_dim") or size
        return [CacheGroup(number, heads, size + (values if not rank else size), window_of(config))]
    heads, size = _of_full_layers(config, heads, size)
    return [CacheGroup(number, heads, size + (_count(config, "v_head_dim") or size)), *_indexer(config, number, 1)]


def _of_full_layers(config: Mapping[str, Any], heads: int, size: int) -> tuple[int, int]:
    """Gemma 4's full layers have heads of their own; transformers 5 writes them as overrides of single layers."""
    overrides = config.get("per_layer_config")
    if isinstance(overrides, Mapping) and overrides:
        one = next(iter(overrides.values()))
        return _count(one, "num_key_value_heads") or heads, _count(one, "head_dim") or size
    own = _count(config, "num_global_key_value_heads") if config.get("attention_k_eq_v", True) else None
    return own or heads, _count(config, "global_head_dim") or size


def _compressed(config: Mapping[str, Any], kind: str, number: int, size: int) -> list[CacheGroup]:
    """DeepSeek-V4: the last tokens as they are, and one entry for each few tokens before; keys are values."""
    rates = config.get("compress_rates")
    usual = next(ratio for ratio, name in _COMPRESSED.items() if name == kind)
    ratio = int(rates[kind]) if isinstance(rates, Mapping) and kind in rates else usual
    groups = [CacheGroup(number, 1, size, window_of(config)), CacheGroup(number, 1, size, None, ratio)]
    return groups + (_indexer(config, number, ratio) if kind == "compressed_sparse_attention" else [])


def _indexer(config: Mapping[str, Any], number: int, ratio: int) -> list[CacheGroup]:
    """Keys by which sparse attention chooses its tokens (DeepSeek-V3.2, GLM-5)."""
    size = _count(config, "index_head_dim")
    return [CacheGroup(number, 1, size, None, ratio)] if size else []


def _state_bytes(config: Mapping[str, Any], kind: str, heads: int) -> int:
    """Of one layer: its state in 32 bit, and the last inputs of its convolution in 16 bit."""
    if kind == "hybrid" or kind in ("mamba", "mamba2"):
        return _mamba_state(config)
    if kind not in STATEFUL:
        return 0
    if value_heads := _count(config, "linear_num_value_heads"):  # gated delta net: Qwen3-Next, Qwen3.5, OLMo hybrid
        key, value = _count(config, "linear_key_head_dim") or 0, _count(config, "linear_value_head_dim") or 0
        width = 2 * (_count(config, "linear_num_key_heads") or 0) * key + value_heads * value
        return value_heads * key * value * 4 + width * _tail(config, "linear_conv_kernel_dim")
    own = config.get("linear_attn_config")  # Kimi's delta attention: three convolutions
    flat = own if isinstance(own, Mapping) else config
    number = _count(flat, "linear_num_heads") or (_count(flat, "num_heads") if flat is own else None)
    if number:
        size = _count(flat, "linear_head_dim") or _count(flat, "head_dim") or 0
        return number * size * size * 4 + 3 * number * size * _tail(flat, "linear_conv_kernel_dim")
    if "lru_width" in config:  # RecurrentGemma
        return (_count(config, "lru_width") or 0) * (4 + _tail(config, "conv1d_width"))
    if "conv_L_cache" in config:  # LFM2
        return (_count(config, "hidden_size") or 0) * _tail(config, "conv_L_cache")
    if mamba := _mamba_state(config):
        return mamba
    size = _count(config, "head_dim") or (_count(config, "hidden_size") or 0) // max(1, heads)
    return heads * size * size * 4  # lightning attention: MiniMax


def _mamba_state(config: Mapping[str, Any]) -> int:
    """Mamba 2 (arXiv 2405.21060) where it has heads, else Mamba (arXiv 2312.00752)."""
    state = _first(config, "ssm_state_size", "mamba_d_state", "state_size")
    if not state:
        return 0
    number = _first(config, "mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    if number is None and config.get("model_type") == "mamba2":
        number = _count(config, "num_heads")
    hidden = _first(config, "hidden_size", "n_embd", "d_model") or 0
    tail = _tail(config, "conv_kernel", "mamba_d_conv")
    if number is None:
        inner = _count(config, "intermediate_size") if "mamba_expand" not in config else None
        inner = inner or (_first(config, "mamba_expand", "expand") or 2) * hidden
        return inner * state * 4 + inner * tail
    size = _first(config, "mamba_head_dim", "mamba_d_head", "mamba_headdim")
    inner = number * size if size else (_first(config, "mamba_expand", "expand") or 2) * hidden
    if config.get("model_type") == "mamba2":
        inner = number * (_count(config, "head_dim") or 64)
    width = inner + 2 * (_first(config, "n_groups", "mamba_n_groups", "mamba_ngroups") or 1) * state
    return inner * state * 4 + width * tail


def _tail(config: Mapping[str, Any], *names: str) -> int:
    """Bytes of one channel's last inputs: one fewer than the kernel is wide, in 16 bit."""
    return ((_first(config, *names) or 4) - 1) * 2


def _first(config: Mapping[str, Any], *names: str) -> int | None:
    return next((value for name in names if (value := _count(config, name))), None)


def _count(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
