"""How many parameters a model has, counted from its shape, part by part."""

from __future__ import annotations

from kaito.catalog.architecture import Architecture


def total_parameters(shape: Architecture) -> int:
    """Every trainable number, embeddings included; tied ones counted once."""
    return embedding_parameters(shape) + body_parameters(shape) + shape.traits.final_norms * shape.hidden


def embedding_parameters(shape: Architecture) -> int:
    """Token embeddings, the output head unless tied, learned positions."""
    table = shape.vocabulary * shape.hidden
    head = (0 if shape.tied else table) + (shape.vocabulary if shape.traits.head_bias else 0)
    positions = (shape.context_length or 0) * shape.hidden if shape.traits.positions else 0
    return table + head + positions


def body_parameters(shape: Architecture) -> int:
    """All layers: attention, feed-forward or experts, norms."""
    norms = shape.layers * shape.traits.norms * shape.hidden
    return shape.layers * attention_parameters(shape) + feed_forward_parameters(shape) + norms


def active_parameters(shape: Architecture) -> int:
    """What one token goes through: of the experts only those that are chosen. For FLOPs."""
    if shape.experts is None:
        return total_parameters(shape)
    sparse = shape.layers - shape.experts.dense_layers
    idle = shape.experts.count - shape.experts.active
    return total_parameters(shape) - sparse * idle * _expert(shape, shape.experts.width)


def attention_parameters(shape: Architecture) -> int:
    """One layer's attention."""
    if shape.latent is not None:
        return _latent_attention(shape)
    query, key_value = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    total = shape.hidden * (query + 2 * key_value) + query * shape.hidden
    total += query + 2 * key_value if shape.traits.qkv_bias else 0
    total += shape.hidden if shape.traits.output_bias else 0
    total += shape.heads if shape.traits.sinks else 0
    norms = {"head": 2 * shape.head_dim, "full": query + key_value}
    return total + norms.get(shape.traits.qk_norm, 0)


def _latent_attention(shape: Architecture) -> int:
    """Down- and up-projections of queries and of keys with values (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""
    latent = shape.latent
    assert latent is not None
    query_width = shape.heads * (latent.nope_dim + latent.rope_dim)
    if latent.q_rank is None:
        query = shape.hidden * query_width
    else:
        query = shape.hidden * latent.q_rank + latent.q_rank + latent.q_rank * query_width
    down = shape.hidden * (latent.kv_rank + latent.rope_dim) + latent.kv_rank
    up = latent.kv_rank * shape.heads * (latent.nope_dim + latent.value_dim)
    return query + down + up + shape.heads * latent.value_dim * shape.hidden


def feed_forward_parameters(shape: Architecture) -> int:
    """All layers' feed-forward parts."""
    if shape.experts is None:
        return shape.layers * _feed_forward(shape, shape.intermediate)
    experts = shape.experts
    sparse = experts.count * _expert(shape, experts.width) + experts.count * shape.hidden
    sparse += experts.count if shape.traits.router_bias else 0
    sparse += _feed_forward(shape, experts.shared_width) if experts.shared_width else 0
    sparse += shape.hidden if shape.traits.shared_gate else 0
    dense = experts.dense_layers * _feed_forward(shape, shape.intermediate)
    return dense + (shape.layers - experts.dense_layers) * sparse


def _feed_forward(shape: Architecture, width: int) -> int:
    matrices = 3 if shape.traits.gated else 2
    biases = width * (matrices - 1) + shape.hidden if shape.traits.mlp_bias else 0
    return matrices * shape.hidden * width + biases


def _expert(shape: Architecture, width: int) -> int:
    biases = 2 * width + shape.hidden if shape.traits.router_bias else 0  # gpt-oss gives its experts biases too
    return 3 * shape.hidden * width + biases
