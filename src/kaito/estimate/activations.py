"""What lies in memory beside weights and cache while a model computes: tensors of a forward, kept ones of a backward.

Counted from the order in which transformers' Llama-like layers make and drop tensors, with flash attention (no score
matrix). `number_bytes` is 2 for 16-bit training and serving, 4 for 32 bit on a CPU. All results are bytes.
"""

from __future__ import annotations

from kaito.catalog.models import Figures

DEFAULT_VOCABULARY = 150_000
LOSS_TOKENS, LOSS_WORDS = 4096, 32768
"""The tile of TRL's loss."""


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


def kept_bytes(figures: Figures, tokens: int, *, rank: int, number_bytes: int = 2, quantized: bool = False) -> int:
    """What the backward of one layer keeps, with adapters on every linear layer of a frozen model.

    The residual before each of the two norms and the normed tensors; queries, keys and values after rotation and the
    attention's output twice (as flash attention and as the output projection keep it); gate, its activation, up, and
    their product; and what each adapter's narrow side puts out. In 16 bit a norm keeps a 32-bit copy, and the inputs
    are cast once for each of q, k, v and of gate, up, since adapters are kept in 32 bit. On a quantized base the stream
    between the layers is of 32 bit, and so are gate, up and their product: 14 bytes of the inner width in place of 8.
    """
    hidden, inner = hidden_size(figures), inner_size(figures)
    query, key_value = query_size(figures), key_value_size(figures)
    numbers = 4 * hidden + 3 * query + 2 * key_value + 4 * inner + 7 * rank
    upcast = 0
    if number_bytes == 2:
        numbers += 3 * hidden
        upcast = hidden * 4 + (6 * inner if quantized else 0)
    return tokens * (numbers * number_bytes + upcast)


def backward_bytes(figures: Figures, tokens: int, *, number_bytes: int = 2) -> int:
    """Gradients on the way through one layer: of the residual, and of gate, up and their product."""
    return tokens * (2 * hidden_size(figures) + 3 * inner_size(figures)) * number_bytes


def loss_bytes(figures: Figures, tokens: int, *, number_bytes: int = 2, quantized: bool = False) -> int:
    """The loss at the start of the backward, as TRL computes it: without ever holding all logits.

    TRL's `ChunkedLogProbFunction` projects tiles of 4,096 tokens by 32,768 words into one buffer, and makes the
    gradient of the last hidden state in 32 bit beside the state itself. A quantized base has its output layer in 32
    bit, of which one chunk at a time is cast. On a CPU, without Triton's kernels, the tile's arithmetic is done step by
    step: five tensors of 32 bit, a mask of a byte, and two more tensors while the gradient is added.
    """
    rows, hidden = min(tokens, LOSS_TOKENS), hidden_size(figures)
    states = tokens * hidden * (number_bytes + 4)
    tile = rows * LOSS_WORDS * number_bytes
    cast = LOSS_WORDS * hidden * number_bytes if quantized else 0
    steps = rows * min(LOSS_WORDS, vocabulary(figures)) * (7 * 4 + 1) if number_bytes == 4 else 0
    return states + tile + cast + steps
