"""The KV cache: bytes per token and for a whole context, by the kind of attention."""

from __future__ import annotations

from kaito.catalog.models import Figures

CACHE_BYTES = 2
"""Bytes of one cached number: 16 bit unless the engine is told otherwise; 1 with an fp8 cache."""


def bytes_per_token(figures: Figures, *, cache_bytes: int = CACHE_BYTES) -> int:
    """What one more token costs while every layer with attention still keeps it.

    MHA, GQA and MQA: 2 * layers * kv_heads * head_dim numbers. MLA: layers * (kv_lora_rank + rope_dim), since keys and
    values share one compressed vector (DeepSeek-V2, arXiv 2405.04434, section 2.1.2). Linear layers keep none.
    """
    return _attention_layers(figures) * _layer_numbers(figures) * cache_bytes


def bytes_for_context(figures: Figures, tokens: int, *, cache_bytes: int = CACHE_BYTES) -> int:
    """The cache of one request of `tokens`: layers with a sliding window stop growing at it, linear ones never grow."""
    sliding = figures.sliding_layers or 0
    full = max(0, _attention_layers(figures) - sliding)
    kept = min(tokens, figures.window) if figures.window else tokens
    state = (figures.state_bytes or 0) if tokens else 0
    return (full * tokens + sliding * kept) * _layer_numbers(figures) * cache_bytes + state


def shards(figures: Figures, tensor_parallel: int) -> int:
    """Into how many parts tensor parallelism really cuts the cache.

    Beyond the number of KV heads they are replicated; a compressed (MLA) cache is not cut at all.
    """
    if figures.kv_lora_rank:
        return 1
    return min(tensor_parallel, figures.kv_heads or figures.heads or 1)


def _attention_layers(figures: Figures) -> int:
    return max(0, (figures.layers or 0) - (figures.linear_layers or 0))


def _layer_numbers(figures: Figures) -> int:
    if figures.kv_lora_rank:
        return figures.kv_lora_rank + (figures.qk_rope_head_dim or 0)
    heads = figures.heads or 1
    head_dim = figures.head_dim or (figures.hidden_size or 0) // heads
    return 2 * (figures.kv_heads or heads) * head_dim
