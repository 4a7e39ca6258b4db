"""The KV cache: bytes per token and for a whole context, by the kind of attention."""

from __future__ import annotations

import math

from kaito.catalog.attention import CacheGroup
from kaito.catalog.models import Figures

CACHE_BYTES = 2
"""Bytes of one cached number: 16 bit unless the engine is told otherwise; 1 with an fp8 cache."""


def groups(figures: Figures) -> tuple[CacheGroup, ...]:
    """What the layers keep: as the config says, else as the plain figures do.

    MHA, GQA and MQA keep keys and values of head_dim for each KV head. MLA keeps kv_lora_rank + rope_dim numbers, since
    keys and values share one compressed vector (DeepSeek-V2, arXiv 2405.04434, section 2.1.2). Linear layers keep none.
    """
    if figures.cache:
        return figures.cache
    sliding = figures.sliding_layers or 0
    full = max(0, (figures.layers or 0) - (figures.linear_layers or 0) - sliding)
    if figures.kv_lora_rank:
        return (CacheGroup(full + sliding, 1, figures.kv_lora_rank + (figures.qk_rope_head_dim or 0)),)
    query_heads = figures.heads or 1
    heads = figures.kv_heads or query_heads
    numbers = 2 * (figures.head_dim or (figures.hidden_size or 0) // query_heads)
    windowed = (CacheGroup(sliding, heads, numbers, figures.window),) if sliding else ()
    return (CacheGroup(full, heads, numbers), *windowed)


def bytes_per_token(figures: Figures, *, cache_bytes: int = CACHE_BYTES) -> int:
    """What one more token costs while every layer with attention still keeps it."""
    numbers = sum(group.layers * group.heads * group.numbers / group.ratio for group in groups(figures))
    return math.ceil(numbers * cache_bytes)


def bytes_for_context(
    figures: Figures, tokens: int, *, cache_bytes: int = CACHE_BYTES, tensor_parallel: int = 1
) -> int:
    """The cache of one request of `tokens` on each GPU of a tensor-parallel group, all layers together.

    Layers with a window stop growing at it, linear ones never grow. An entry is cut among no more GPUs than it has KV
    heads; beyond that it is replicated, and a compressed (MLA) entry is whole on every GPU.
    """
    kept = sum(
        group.layers * group.entries(tokens) * math.ceil(group.heads / tensor_parallel) * group.numbers
        for group in groups(figures)
    )
    state = math.ceil((figures.state_bytes or 0) / tensor_parallel) if tokens else 0
    return kept * cache_bytes + state
