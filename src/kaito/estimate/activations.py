"""What lies in memory beside weights and cache while a model computes: tensors of a forward, kept ones of a backward.

Counted from the order in which transformers' Llama-like layers make and drop tensors, with flash attention (no score
matrix). `number_bytes` is 2 for 16-bit training and serving, 4 for 32 bit on a CPU. All results are bytes.
"""

from __future__ import annotations

from kaito.catalog.models import Figures

DEFAULT_VOCABULARY = 150_000


def vocabulary(figures: Figures) -> int:
    """Where it is not known, as large as recent ones are."""
    return figures.vocabulary or DEFAULT_VOCABULARY


def hidden_size(figures: Figures) -> int:
    return figures.hidden_size or 4096


def inner_size(figures: Figures) -> int:
    """The feed-forward part's inner width."""
    return figures.intermediate or 4 * hidden_size(figures)


def query_size(figures: Figures) -> int:
    heads = figures.heads or 1
    return heads * (figures.head_dim or max(1, hidden_size(figures) // heads))


def key_value_size(figures: Figures) -> int:
    """Of keys and of values each."""
    heads = figures.heads or 1
    return (figures.kv_heads or heads) * (figures.head_dim or max(1, hidden_size(figures) // heads))


def forward_bytes(figures: Figures, tokens: int, *, tensor: int = 1, number_bytes: int = 2) -> int:
    """The most that one layer holds in a forward without gradients.

    In the feed-forward part: the residual, its normed copy, and gate, up and their product. In attention: the residual
    and the normed copy beside queries, keys, values and the output.
    """
    hidden = 2 * hidden_size(figures)
    feed_forward = hidden + 3 * inner_size(figures) // tensor
    attention = hidden + (2 * query_size(figures) + 2 * key_value_size(figures)) // tensor
    return tokens * max(feed_forward, attention) * number_bytes


def kept_bytes(figures: Figures, tokens: int, *, rank: int, number_bytes: int = 2) -> int:
    """What the backward of one layer keeps, with adapters on every linear layer of a frozen model.

    The residual before each of the two norms and the normed tensors; queries, keys and values after rotation and the
    attention's output twice (as flash attention and as the output projection keep it); gate, its activation, up, and
    their product; and what each adapter's narrow side puts out. In 16 bit the norms keep a 32-bit copy, and the inputs
    are cast once for each of q, k, v and of gate, up, since adapters are kept in 32 bit.
    """
    hidden, inner = hidden_size(figures), inner_size(figures)
    query, key_value = query_size(figures), key_value_size(figures)
    numbers = 4 * hidden + 3 * query + 2 * key_value + 4 * inner + 7 * rank
    upcast = 0
    if number_bytes == 2:
        numbers += 3 * hidden
        upcast = 2 * hidden * 4
    return tokens * (numbers * number_bytes + upcast)


def backward_bytes(figures: Figures, tokens: int, *, number_bytes: int = 2) -> int:
    """Gradients on the way through one layer: of the residual, and of gate, up and their product."""
    return tokens * (2 * hidden_size(figures) + 3 * inner_size(figures)) * number_bytes


def loss_bytes(figures: Figures, tokens: int) -> int:
    """The loss at the start of the backward: its log-softmax, the gradient of that, and the gradient of the logits.

    All in 32 bit, whatever the model's numbers are. The logits themselves are dropped by then.
    """
    return tokens * vocabulary(figures) * 3 * 4
