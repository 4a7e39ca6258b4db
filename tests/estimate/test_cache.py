"""What the estimate says of the KV cache is what transformers' own caches hold, for many kinds of attention."""

import json
from typing import Any

import pytest

from kaito.catalog.architecture import parse_config
from kaito.catalog.attention import parse_groups
from kaito.catalog.models import Figures, figures_of, find_model
from kaito.estimate.kv import bytes_for_context, bytes_per_token

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "num_hidden_layers": 8,
}
V4 = {
    "num_key_value_heads": 1,
    "q_lora_rank": 32,
    "o_lora_rank": 32,
    "o_groups": 2,
    "qk_rope_head_dim": 8,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 8,
    "sliding_window": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 16},
}
NO_EMBEDDINGS_BY_LAYER = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 128}
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("grouped heads", "llama", {}),
    ("every layer a window", "mistral", {"sliding_window": 16}),
    ("each second layer a window", "gpt_oss", {"sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2}),
    ("five of six layers a window", "gemma3_text", {"sliding_window": 16}),
    ("wider full layers", "gemma4_text", {"sliding_window": 16, "global_head_dim": 32, **NO_EMBEDDINGS_BY_LAYER}),
    ("chunks", "llama4_text", {"attention_chunk_size": 16, "num_local_experts": 2, "intermediate_size_mlp": 96}),
    ("delta net", "qwen3_5_text", DELTA),
    ("Mamba 2 beside attention", "falcon_h1", {**MAMBA, "mamba_d_ssm": 128, "mamba_n_groups": 1}),
    ("Mamba 2, some attention", "bamba", {**MAMBA, "attn_layer_indices": [1, 4]}),
    (
        "Mamba 1, some attention",
        "jamba",
        {
            "mamba_d_state": 8,
            "mamba_dt_rank": 8,
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "use_mamba_kernels": False,
        },
    ),
    ("convolutions", "lfm2", {"full_attn_idxs": [1, 4], "layer_types": None}),
    ("lightning attention", "minimax", {"num_local_experts": 2}),
    (
        "Mamba, attention and plain layers",
        "nemotron_h",
        {
            "hybrid_override_pattern": "M-M*-M",
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
            "ssm_state_size": 16,
            "n_groups": 1,
        },
    ),
    ("compressed entries", "deepseek_v4", V4),
]


def held(cache: Any, seen: set[int]) -> int:
    """Bytes of the floating-point tensors that a cache reaches, each once."""
    import torch

    if isinstance(cache, torch.Tensor):
        new = cache.data_ptr() not in seen and cache.is_floating_point()
        seen.add(cache.data_ptr())
        return cache.numel() * cache.element_size() if new else 0
    if isinstance(cache, (list, tuple)):
        return sum(held(one, seen) for one in cache)
    if isinstance(cache, dict):
        return sum(held(one, seen) for name, one in cache.items() if "config" not in str(name))
    return held(vars(cache), seen) if hasattr(cache, "__dict__") and not isinstance(cache, type) else 0


def real_and_ours(family: str, changes: dict[str, Any], tokens: tuple[int, ...]) -> list[tuple[int, int]]:
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(family, **{**SMALL, **changes})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    figures = figures_of(parse_config(json.loads(config.to_json_string(use_diff=False))), None)
    found = []
    for count in tokens:
        with torch.inference_mode():
            output = model(input_ids=torch.randint(3, 100, (1, count)), use_cache=True)
        ours = bytes_for_context(figures, count, cache_bytes=4)  # the model computes in 32 bit
        found.append((held(output.past_key_values, set()), ours))
    return found


@pytest.mark.parametrize(("family", "changes"), [pytest.param(f, c, id=name) for name, f, c in KINDS])
def test_the_cache_grows_as_transformers_own_does(family: str, changes: dict[str, Any]) -> None:
    pytest.importorskip("transformers")
    (short, our_short), (long, our_long) = real_and_ours(family, changes, (48, 96))
    assert our_long - our_short == long - short
    # What does not grow: transformers keeps one token less of a window, and the convolutions' inputs in 32 bit here.
    assert our_long == pytest.approx(long, rel=0.15)


def figures(name: str) -> Figures:
    found = find_model(name)
    assert found is not None
    assert found.figures is not None
    return found.figures


@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        # 2 * layers * kv_heads * head_dim * 2 bytes: config.json of the model
        pytest.param("llama-3.3-70b-instruct", 2 * 80 * 8 * 128 * 2, id="grouped heads: Llama 3.3 70B"),
        pytest.param("falcon-7b", 2 * 32 * 1 * 64 * 2, id="one KV head: Falcon 7B"),
        # (kv_lora_rank + rope) * layers * 2 bytes, the 70.272 KB of arXiv 2505.09343, table 1
        pytest.param("deepseek-v3-0324", 70272, id="MLA: DeepSeek V3"),
        # 62 layers, each sixth of them full, 16 KV heads of 128: arXiv 2503.19786, table 1 and section 2
        pytest.param("gemma-3-27b-instruct", 2 * 62 * 16 * 128 * 2, id="windows within them: Gemma 3 27B"),
    ],
)
def test_known_models_by_token(name: str, per_token: int) -> None:
    assert bytes_per_token(figures(name)) == per_token


def test_known_models_at_their_full_context() -> None:
    gemma = figures("gemma-3-27b-instruct")
    assert bytes_for_context(gemma, 131072) == (10 * 131072 + 52 * 1024) * 2 * 16 * 128 * 2
    gemma4 = figures("google/gemma-4-31B-it")
    assert bytes_for_context(gemma4, 262144) == (10 * 262144 * 4 * 1024 + 50 * 1024 * 16 * 512) * 2
    oss = figures("gpt-oss-120b")
    assert bytes_for_context(oss, 131072) == (18 * 131072 + 18 * 128) * 2 * 8 * 64 * 2


def test_the_cache_is_cut_among_no_more_gpus_than_there_are_kv_heads() -> None:
    llama, deepseek = figures("llama-3.3-70b-instruct"), figures("deepseek-v3-0324")
    whole = bytes_for_context(llama, 1000)
    assert bytes_for_context(llama, 1000, tensor_parallel=8) == whole // 8
    assert bytes_for_context(llama, 1000, tensor_parallel=16) == whole // 8
    assert bytes_for_context(deepseek, 1000, tensor_parallel=8) == bytes_for_context(deepseek, 1000)


@pytest.mark.parametrize("text", ["10x4", "10*4", "a*4x2", "10*4x2@"])
def test_a_slip_in_the_catalogues_notation_is_found(text: str) -> None:
    with pytest.raises(ValueError, match="is not layers"):
        parse_groups(text)
