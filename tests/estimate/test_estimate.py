"""The coarse estimator: known sizes, and laws that must hold for any."""

from hypothesis import given
from hypothesis import strategies as st

from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.catalog.models import Figures, Model, find_model
from kaito.estimate import Estimate, estimate_serving, estimate_tuning, kv_bytes_per_token


def serving(model: str, instance: str, context: int = 2048) -> Estimate:
    found, type_ = find_model(model), find_instance_type(instance)
    assert found is not None
    assert type_ is not None
    return estimate_serving(found, type_, context=context)


def test_kv_bytes_of_known_models() -> None:
    llama = find_model("llama-3.3-70b-instruct")
    assert llama is not None
    assert llama.figures is not None
    assert kv_bytes_per_token(llama.figures) == 327680
    deepseek = find_model("deepseek-v3-0324")
    assert deepseek is not None
    assert deepseek.figures is not None
    assert kv_bytes_per_token(deepseek.figures) == (512 + 64) * 61 * 2


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
