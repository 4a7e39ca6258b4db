"""What an estimate says, for planners and for people."""

from __future__ import annotations

import msgspec

GIB = 2**30


class Estimate(msgspec.Struct, frozen=True):
    """`fits` is False when no number of nodes helps; `why` is one sentence for people in either case.

    Sizes are in bytes.
    """

    fits: bool
    nodes: int
    gpus_per_node: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    weights_bytes: int
    """Of the whole model."""
    kv_cache_bytes: int
    """Of one request at the context that was asked for."""
    overhead_bytes: int
    """On each GPU, beside weights and cache."""
    per_gpu_bytes: int
    """On the fullest GPU."""
    why: str
    usable_bytes: int = 0
    """Of one GPU."""
    longest_context: int = 0
    """Tokens that one request may have on these nodes; 0 where not known."""
    requests_at_once: int = 0
    """Requests of the context asked for that fit at the same time; 0 where not known."""
    batch_size: int = 0
    """Tuning: the largest batch that fits on each GPU; 0 where not known."""
    tokens_per_second: float = 0.0
    """Tuning: from the model's FLOPs, the GPU's data sheet and a stated efficiency; 0 where not known."""
    context: int = 0
    """Serving: tokens of one request that this is planned for."""
    engine: str = ""
    """Serving: the engine that these GPUs get, "vllm" or "transformers"."""
    parts: dict[str, int] = {}
    """What the fullest GPU holds, by name; the sum is `per_gpu_bytes`."""
    notes: tuple[str, ...] = ()
    """What a practitioner would add: one sentence each."""


def in_words(size: int) -> str:
    """Bytes for people: GiB with one decimal, small ones in MiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB // 10 else f"{size / 2**20:.0f} MiB"
