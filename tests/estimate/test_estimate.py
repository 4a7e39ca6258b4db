"""The estimator: known sizes, and laws that must hold for any."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.catalog.instances import InstanceType, find_instance_type, instance_types
from kaito.catalog.models import Figures, Model, find_model, model_names
from kaito.estimate import Estimate, estimate_serving, estimate_tuning
from kaito.estimate.kv import bytes_for_context
from kaito.estimate.layout import Layout, tensor_parallel
from kaito.estimate.serving import Demand, longest_context, per_gpu_bytes
from kaito.estimate.tuning import TuningSettings, step_memory, tuning_memory


def serving(model: str, instance: str, context: int = 2048) -> Estimate:
    found, type_ = find_model(model), find_instance_type(instance)
    assert found is not None
    assert type_ is not None
    return estimate_serving(found, type_, context=context)


def test_a_70b_model_needs_several_a100s() -> None:
    estimate = serving("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4")
    assert estimate.fits
    assert estimate.nodes == 3


def test_phi_3_mini_tunes_on_one_v100() -> None:
    model, type_ = find_model("phi-3-mini-128k-instruct"), find_instance_type("Standard_NC6s_v3")
    assert model is not None
    assert type_ is not None
    estimate = estimate_tuning(model, type_, method="qlora")
    assert estimate.fits
    assert estimate.nodes == 1


def test_what_does_not_fit_one_gpu_for_tuning_says_so() -> None:
    model, type_ = find_model("llama-3.3-70b-instruct"), find_instance_type("Standard_NC6s_v3")
    assert model is not None
    assert type_ is not None
    estimate = estimate_tuning(model, type_, method="lora")
    assert not estimate.fits
    assert "Standard_NC6s_v3" in estimate.why


@given(
    weights=st.integers(10**8, 10**12),
    layers=st.integers(1, 128),
    context=st.integers(1, 200_000),
    more=st.integers(1, 200_000),
    gpus=st.sampled_from([1, 2, 4, 8]),
)
def test_more_context_never_needs_less(weights: int, layers: int, context: int, more: int, gpus: int) -> None:
    figures = Figures(weights_bytes=weights, hidden_size=4096, layers=layers, heads=32, kv_heads=8)
    model = Model(name="m", figures=figures)
    type_ = InstanceType("x", "X", "G", gpus, 81920, "nvidia.com/gpu", 8.0, 8, 64.0, False, "amd64")
    short, long = (estimate_serving(model, type_, context=c) for c in (context, context + more))
    assert long.nodes >= short.nodes
    assert long.kv_cache_bytes > short.kv_cache_bytes


@pytest.mark.parametrize(
    ("model", "instance", "layout"),
    [
        pytest.param("llama-3.3-70b-instruct", "Standard_NC48ads_A100_v4", (2, 2, 2, 1), id="70B on pairs of A100"),
        pytest.param("llama-3.3-70b-instruct", "Standard_NC96ads_A100_v4", (1, 4, 1, 1), id="70B on four A100"),
        pytest.param("llama-3.3-70b-instruct", "Standard_ND96amsr_A100_v4", (1, 8, 1, 1), id="70B on eight A100"),
        pytest.param("gpt-oss-120b", "Standard_NC24ads_A100_v4", (1, 1, 1, 1), id="its weights are counted once"),
        pytest.param("deepseek-v3-0324", "Standard_ND96isr_H200_v5", (1, 8, 1, 1), id="DeepSeek V3 on eight H200"),
        pytest.param("phi-3-mini-128k-instruct", "Standard_NC96ads_A100_v4", (1, 1, 1, 4), id="small: copies"),
        pytest.param("phi-4", "g6.12xlarge", (1, 2, 2, 1), id="ten KV heads are cut in two, not in four"),
        pytest.param("falcon-7b", "g6.12xlarge", (1, 1, 4, 1), id="71 heads are not cut at all"),
    ],
)
def test_layouts_that_a_practitioner_would_choose(model: str, instance: str, layout: tuple[int, ...]) -> None:
    estimate = serving(model, instance)
    found = (estimate.nodes, estimate.tensor_parallel, estimate.pipeline_parallel, estimate.data_parallel)
    assert estimate.fits
    assert found == layout


def test_a_context_that_no_number_of_small_gpus_holds() -> None:
    estimate = serving("phi-3-mini-128k-instruct", "g4ad.xlarge", 131072)
    assert not estimate.fits or estimate.longest_context >= 131072


@given(batch=st.integers(1, 64), length=st.integers(16, 8192), rank=st.integers(1, 256))
def test_tuning_more_never_needs_less(batch: int, length: int, rank: int) -> None:
    figures = Figures(weights_bytes=16 * 10**9, hidden_size=4096, layers=32, heads=32, kv_heads=8, vocabulary=128256)
    base = tuning_memory(figures, method="qlora", rank=rank, batch=batch, length=length).total
    assert tuning_memory(figures, method="qlora", rank=rank, batch=batch + 1, length=length).total > base
    assert tuning_memory(figures, method="qlora", rank=rank + 1, batch=batch, length=length).total > base
    plain, quantized = (
        tuning_memory(figures, method=method, batch=batch, length=length) for method in ("lora", "qlora")
    )
    assert plain.base > quantized.base
    assert plain.activations < quantized.activations  # the stream between layers is of 32 bit on a quantized base


MODELS = sorted({model.huggingface for name in model_names() if (model := find_model(name)) and model.huggingface})
TYPES = sorted(name for name, type_ in instance_types().items() if type_.resource == "nvidia.com/gpu")


@given(model=st.sampled_from(MODELS), instance=st.sampled_from(TYPES), context=st.integers(1, 300_000))
def test_every_plan_of_the_catalogue_is_whole(model: str, instance: str, context: int) -> None:
    """Units never mix: the parts add up in bytes, a plan that fits is within what one GPU has, and its GPUs exist."""
    estimate = serving(model, instance, context)
    used = estimate.tensor_parallel * estimate.pipeline_parallel * estimate.data_parallel
    assert sum(estimate.parts.values()) == estimate.per_gpu_bytes
    assert 1 <= used <= max(1, estimate.nodes * estimate.gpus_per_node)
    assert 2**30 < estimate.usable_bytes < 2**40
    if estimate.fits:
        assert estimate.per_gpu_bytes <= estimate.usable_bytes
        assert estimate.longest_context >= estimate.context
        assert estimate.requests_at_once >= 1


@given(model=st.sampled_from(MODELS), tokens=st.integers(1, 100_000), cut=st.sampled_from([1, 2, 4, 8]))
def test_a_cache_grows_with_its_tokens_and_shrinks_with_its_gpus(model: str, tokens: int, cut: int) -> None:
    found = find_model(model)
    assert found is not None
    figures = found.figures
    assert figures is not None
    here = bytes_for_context(figures, tokens, tensor_parallel=cut)
    assert bytes_for_context(figures, tokens + 1, tensor_parallel=cut) >= here
    assert bytes_for_context(figures, tokens, tensor_parallel=2 * cut) <= here
    assert bytes_for_context(figures, tokens, cache_bytes=1, tensor_parallel=cut) <= here


@given(layers=st.integers(1, 128), more=st.integers(1, 64), context=st.integers(1, 100_000))
def test_more_layers_never_need_less(layers: int, more: int, context: int) -> None:
    def needed(count: int) -> tuple[int, int]:
        figures = Figures(weights_bytes=count * 10**8, hidden_size=4096, layers=count, heads=32, kv_heads=8)
        settings = TuningSettings(batch=2, length=min(context, 4096))
        one = Layout(1, 1, 1, 1)
        serving = per_gpu_bytes(Model(name="m", figures=figures), figures, one, Demand(context=context))
        return serving, step_memory(figures, settings).total

    assert all(large > small for small, large in zip(needed(layers), needed(layers + more), strict=True))


@given(gpus=st.sampled_from([1, 2, 4, 8, 16]), groups=st.integers(1, 16), kv_heads=st.integers(1, 64))
def test_parallelism_divides_the_heads(gpus: int, groups: int, kv_heads: int) -> None:
    heads = groups * kv_heads
    size = tensor_parallel(Figures(heads=heads, kv_heads=kv_heads), gpus)
    assert heads % size == 0
    assert kv_heads % size == 0 or size % kv_heads == 0
    assert gpus % size == 0


def test_gpus_that_vllm_does_not_support_serve_one_by_one() -> None:
    estimate = serving("phi-3-mini-4k-instruct", "Standard_NC24s_v3")
    assert (estimate.fits, estimate.engine, estimate.nodes) == (True, "transformers", 1)
    assert (estimate.tensor_parallel, estimate.pipeline_parallel, estimate.data_parallel) == (1, 1, 1)
    assert any("1 of the 4 GPUs" in note for note in estimate.notes)
    large = serving("llama-3.3-70b-instruct", "Standard_NC24s_v3")
    assert not large.fits
    assert "the built-in engine uses one GPU" in large.why


@pytest.mark.parametrize(
    ("model", "instance", "says"),
    [
        pytest.param(
            "gpt-oss-20b", "Standard_NC64as_T4_v3", "mxfp4 weights need compute capability 8.0", id="mxfp4, T4"
        ),
        pytest.param("qwen/qwen3-8b-awq", "Standard_NC6s_v3", "awq weights need vllm", id="awq on a V100"),
    ],
)
def test_number_formats_that_the_gpus_do_not_have(model: str, instance: str, says: str) -> None:
    estimate = serving(model, instance)
    assert not estimate.fits
    assert says in estimate.why


@given(
    weights=st.integers(10**8, 10**12),
    layers=st.integers(1, 128),
    kv_heads=st.sampled_from([1, 2, 8, 32]),
    gpus=st.sampled_from([1, 2, 4]),
    nodes=st.integers(1, 8),
)
def test_more_gpus_never_lower_the_longest_context(
    weights: int, layers: int, kv_heads: int, gpus: int, nodes: int
) -> None:
    figures = Figures(weights_bytes=weights, hidden_size=4096, layers=layers, heads=32, kv_heads=kv_heads)
    model, usable = Model(name="m", figures=figures), 60 * 2**30

    def longest(layout: Layout) -> int:
        return longest_context(model, figures, layout, usable, Demand())

    one = longest(Layout(nodes, gpus, nodes, 1))
    assert longest(Layout(nodes, 2 * gpus, nodes, 1)) >= one
    assert longest(Layout(nodes + 1, gpus, nodes + 1, 1)) >= one


@pytest.mark.parametrize("model", ["llama-3.3-70b-instruct", "deepseek-v3-0324", "qwen/qwen3.5-9b"])
def test_parts_add_up_and_an_8_bit_cache_is_half(model: str) -> None:
    type_, found = find_instance_type("Standard_ND96isr_H200_v5"), find_model(model)
    assert type_ is not None
    assert found is not None
    assert found.figures is not None
    full, half = (estimate_serving(found, type_, context=32768, cache_bytes=size) for size in (2, 1))
    assert sum(full.parts.values()) == full.per_gpu_bytes
    state = found.figures.state_bytes or 0
    assert full.kv_cache_bytes - state == 2 * (half.kv_cache_bytes - state)


def test_linear_layers_keep_a_state_and_no_cache() -> None:
    found = find_model("qwen/qwen3.5-9b")
    assert found is not None
    figures = found.figures
    assert figures is not None
    per_token = bytes_for_context(figures, 2001) - bytes_for_context(figures, 2000)
    assert per_token == 8 * 2 * 4 * 256 * 2  # eight of 32 layers have attention


def test_a_plan_takes_less_than_50_ms() -> None:
    """Of the processor: how long others make it wait is not the plan's affair."""
    started = time.process_time()
    for context in range(2048, 2068):  # answers are kept, so none is asked twice
        serving("llama-3.3-70b-instruct", "Standard_ND96amsr_A100_v4", context)
    assert (time.process_time() - started) / 20 < 0.05


def test_a_4_bit_base_is_refused_where_the_gpus_cannot() -> None:
    model, type_ = find_model("phi-3-mini-128k-instruct"), find_instance_type("Standard_NV6")
    assert model is not None
    assert type_ is not None
    estimate = estimate_tuning(model, type_, method="qlora")
    assert not estimate.fits
    assert "compute capability 5.2" in estimate.why
