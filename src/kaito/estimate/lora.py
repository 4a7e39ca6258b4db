"""How many parameters adapters have, for serving them and for tuning them."""

from __future__ import annotations

from kaito.catalog.models import Figures
from kaito.estimate.activations import hidden_size, inner_size, key_value_size, query_size


def lora_parameters(figures: Figures, rank: int) -> int:
    """Of adapters on every linear layer: rank * (in + out) for q, k, v, o, gate, up and down of each layer.

    The experts of a mixture are one tensor, not linear layers, and get none.
    """
    hidden, query, key_value = hidden_size(figures), query_size(figures), key_value_size(figures)
    attention = 2 * (hidden + query) + 2 * (hidden + key_value)
    feed_forward = 0 if figures.mixture else 3 * (hidden + inner_size(figures))
    return (figures.layers or 0) * rank * (attention + feed_forward)
