"""What a Hugging Face `config.json` says of a model's shape, in one form for all families.

Families name the same things differently (`n_embd`, `hidden_size`), leave defaults out, and differ in what their layers
carry (biases, norms, experts). Here that becomes plain counts, from which parameters, KV cache and activations follow.
Sources: the configuration and modelling classes of transformers 5, whose parameter counts the tests compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kaito.catalog.attention import STATEFUL, WINDOWED, WITHOUT, CacheGroup, kept_by, layer_kinds, window_of


class ConfigIncomplete(ValueError):
    """A config lacks what sizing needs. The text names the keys that were looked for."""


class Latent(msgspec.Struct, frozen=True):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): ranks and head sizes."""

    kv_rank: int
    q_rank: int | None
    rope_dim: int
    nope_dim: int
    value_dim: int


class Experts(msgspec.Struct, frozen=True):
    """A mixture of experts: `count` in each sparse layer, `active` of them per token; sizes are inner widths."""

    count: int
    active: int
    width: int
    shared_width: int
    dense_layers: int


class Traits(msgspec.Struct, frozen=True):
    """What a family's layers carry beside their matrices."""

    qkv_bias: bool = False
    output_bias: bool = False
    gated: bool = True
    """Three matrices (SwiGLU and kin) or two."""
    mlp_bias: bool = False
    norms: int = 2
    """Norm vectors of hidden size in each layer; a LayerNorm with bias counts twice."""
    final_norms: int = 1
    qk_norm: str = ""
    """"head": a vector of the head size for q and k; "full": of their whole width."""
    head_bias: bool = False
    positions: bool = False
    """Learned position embeddings."""
    sinks: bool = False
    router_bias: bool = False
    shared_gate: bool = False


class Architecture(msgspec.Struct, frozen=True):
    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context_length: int | None
    tied: bool
    traits: Traits
    cache: tuple[CacheGroup, ...] = ()
    """What the layers keep of each token."""
    sliding_layers: int = 0
    """Layers that see only a window, and keep KV for no more."""
    window: int | None = None
    linear_layers: int = 0
    """Layers without a KV cache: a state of fixed size (Mamba, linear attention), or a feed-forward part alone."""
    state_bytes: int = 0
    """Of all layers with a state, for one request."""
    latent: Latent | None = None
    experts: Experts | None = None
    quantization_bits: int | None = None

    @property
    def full_layers(self) -> int:
        return self.layers - self.sliding_layers - self.linear_layers


_LAYER_NORM = Traits(norms=4, final_norms=2, qkv_bias=True, output_bias=True, gated=False, mlp_bias=True)
_FAMILIES: Mapping[str, Traits] = {
    "llama": Traits(),
    "mistral": Traits(),
    "ministral3": Traits(),
    "phi3": Traits(),
    "granite": Traits(),
    "mixtral": Traits(),
    "qwen2": Traits(qkv_bias=True),
    "qwen2_moe": Traits(qkv_bias=True, shared_gate=True),
    "qwen3": Traits(qk_norm="head"),
    "qwen3_moe": Traits(qk_norm="head"),
    "gemma2": Traits(norms=4),
    "gemma3_text": Traits(norms=4, qk_norm="head"),
    "olmo2": Traits(qk_norm="full"),
    "deepseek_v2": Traits(),
    "deepseek_v3": Traits(),
    "gpt_oss": Traits(qkv_bias=True, output_bias=True, sinks=True, router_bias=True),
    "gpt2": msgspec.structs.replace(_LAYER_NORM, positions=True),
    "gpt_neox": _LAYER_NORM,
    "starcoder2": _LAYER_NORM,
    "stablelm": Traits(norms=4, final_norms=2),
    "phi": msgspec.structs.replace(_LAYER_NORM, norms=2, head_bias=True),
    "cohere": Traits(norms=1),
    "falcon": Traits(norms=2, final_norms=2, gated=False),
}
_TIED_BY_DEFAULT = frozenset({"gpt2", "gemma2", "gemma3_text", "falcon", "cohere"})
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads")
_WITHOUT_HEADS = frozenset({"mamba", "mamba2", "falcon_mamba"})
_NESTED = ("text_config", "llm_config", "language_config")


def known_families() -> frozenset[str]:
    """Families whose parameters are counted exactly; others are taken to be built like Llama."""
    return frozenset(_FAMILIES)


def parse_config(config: Mapping[str, Any]) -> Architecture:
    """The shape that a `config.json` describes; of a multimodal model, its language part.

    Raises ConfigIncomplete.
    """
    flat = _flatten(config)
    family = str(flat.get("model_type", ""))
    hidden = _number(flat, "hidden_size", "n_embd", "d_model")
    layers = _layers(flat)
    heads = 1 if family in _WITHOUT_HEADS else _number(flat, *_HEADS)
    kv_heads, head_dim = _kv_heads(flat, heads), _optional(flat, "head_dim", "attention_head_dim") or hidden // heads
    kinds = layer_kinds(flat, layers)
    kept = kept_by(flat, layers=layers, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    return Architecture(
        family=family,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=_intermediate(flat) or 4 * hidden,
        vocabulary=_number(flat, "vocab_size"),
        context_length=_optional(flat, "max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len"),
        tied=bool(flat.get("tie_word_embeddings", family in _TIED_BY_DEFAULT)),
        traits=_traits(flat, family),
        cache=kept.groups,
        sliding_layers=sum(kind in WINDOWED for kind in kinds),
        window=window_of(flat),
        linear_layers=sum(kind in STATEFUL or kind in WITHOUT for kind in kinds),
        state_bytes=kept.state_bytes,
        latent=_latent(flat),
        experts=_experts(flat),
        quantization_bits=_quantization_bits(config),
    )


def _layers(config: Mapping[str, Any]) -> int:
    """Some hybrids name each layer and not their number."""
    named = config.get("layers_block_type") or config.get("hybrid_override_pattern") or ()
    return _optional(config, *_LAYERS) or len(named) or _number(config, *_LAYERS)


def _intermediate(config: Mapping[str, Any]) -> int | None:
    """The inner width of a feed-forward part; the widest where it differs by layer."""
    sizes = config.get("intermediate_size")
    if isinstance(sizes, list):
        return max((size for size in sizes if isinstance(size, int)), default=None)
    return _optional(config, "intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim")


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    for name in _NESTED:
        nested = config.get(name)
        if isinstance(nested, Mapping):
            return {**config, **nested}
    return dict(config)


def _number(config: Mapping[str, Any], *names: str) -> int:
    found = _optional(config, *names)
    if found is None:
        raise ConfigIncomplete(f"the model's config.json has none of {', '.join(names)}, so its size cannot be told")
    return found


def _optional(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    if config.get("model_type") == "falcon" and not config.get("new_decoder_architecture"):
        return 1 if config.get("multi_query", True) else heads
    if config.get("multi_query"):
        return 1
    own = config.get("attn_config")  # MPT, DBRX
    inner = _optional(own, "kv_n_heads") if isinstance(own, Mapping) else None
    return _optional(config, "num_key_value_heads", "num_kv_heads", "n_head_kv") or inner or heads


def _traits(config: Mapping[str, Any], family: str) -> Traits:
    traits = _FAMILIES.get(family, Traits())
    if family in ("llama", "granite", "qwen3", "qwen3_moe") and config.get("attention_bias"):
        traits = msgspec.structs.replace(traits, qkv_bias=True, output_bias=True)
    if family in ("llama", "granite") and config.get("mlp_bias"):
        traits = msgspec.structs.replace(traits, mlp_bias=True)
    if family == "falcon" and config.get("new_decoder_architecture"):
        traits = msgspec.structs.replace(traits, norms=4)
    return traits


def _latent(config: Mapping[str, Any]) -> Latent | None:
    rank = _optional(config, "kv_lora_rank")
    if rank is None:
        return None
    return Latent(
        kv_rank=rank,
        q_rank=_optional(config, "q_lora_rank"),
        rope_dim=_number(config, "qk_rope_head_dim"),
        nope_dim=_number(config, "qk_nope_head_dim"),
        value_dim=_number(config, "v_head_dim"),
    )


def _experts(config: Mapping[str, Any]) -> Experts | None:
    count = _optional(config, "num_local_experts", "num_experts", "n_routed_experts")
    if count is None:
        return None
    width = _optional(config, "moe_intermediate_size", "expert_ffn_hidden_size") or _number(config, "intermediate_size")
    shared = (
        _optional(config, "shared_expert_intermediate_size") or (_optional(config, "n_shared_experts") or 0) * width
    )
    return Experts(
        count=count,
        active=_optional(config, "num_experts_per_tok", "moe_topk") or 1,
        width=width,
        shared_width=shared,
        dense_layers=_optional(config, "first_k_dense_replace") or len(config.get("mlp_only_layers") or []),
    )


def _quantization_bits(config: Mapping[str, Any]) -> int | None:
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return None
    method = str(found.get("quant_method", ""))
    by_method = {"fp8": 8, "mxfp4": 4, "awq": 4, "gptq": 4, "nvfp4": 4}
    bits = found.get("bits") or found.get("w_bit") or by_method.get(method)
    return int(bits) if bits else None
