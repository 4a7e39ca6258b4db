"""How many parameters adapters have, for serving them and for tuning them."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.catalog.models import Figures
from kaito.estimate.activations import hidden_size, inner_size, key_value_size, query_size


def lora_parameters(figures: Figures, rank: int, targets: Iterable[str] = ()) -> int:
    """Rank * (in + out) of each linear layer that carries an adapter: all of them, or those named in `targets`.

    The experts of a mixture are one tensor, not linear layers, and get none. A name that is not known here, such as one
    of a compressed attention, is taken for all of them: an upper bound.
    """
    names = set(targets)
    widths = _widths(figures)
    if names and names <= widths.keys():
        return (figures.layers or 0) * rank * sum(widths[name] for name in names)
    if figures.adapter_width:
        return rank * figures.adapter_width
    attention = widths["q_proj"] + widths["k_proj"] + widths["v_proj"] + widths["o_proj"]
    feed_forward = 0 if figures.mixture else 3 * widths["up_proj"]
    return (figures.layers or 0) * rank * (attention + feed_forward)


def _widths(figures: Figures) -> dict[str, int]:
    """In + out of one layer's linear layers, by the names that families give them."""
    hidden, query, key_value = hidden_size(figures), query_size(figures), key_value_size(figures)
    inner = 0 if figures.mixture else hidden + inner_size(figures)
    fused = hidden + query + 2 * key_value
    return {
        "q_proj": hidden + query,
        "k_proj": hidden + key_value,
        "v_proj": hidden + key_value,
        "o_proj": query + hidden,
        "qkv_proj": fused,
        "query_key_value": fused,
        "c_attn": fused,
        "gate_proj": inner,
        "up_proj": inner,
        "down_proj": inner,
        "gate_up_proj": inner + inner - hidden if inner else 0,
        "fc1": inner,
        "fc2": inner,
        "dense_h_to_4h": inner,
        "dense_4h_to_h": inner,
    }
