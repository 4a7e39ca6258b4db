"""What a Workspace and its config ask, read once for `kaito plan`, the controller and admission."""

from typing import Any

import msgspec
import pytest

from kaito.api.core import ConfigMap
from kaito.api.meta import ObjectMeta
from kaito.api.workspace import Workspace
from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.catalog.models import Model, find_model
from kaito.estimate.advice import admission_advice, advise, remarks
from kaito.estimate.request import epochs_of, estimate_request, read_request, served_after
from kaito.workspace.observe import Observed
from kaito.workspace.plan.inputs import resolve_config
from kaito.workspace.plan.sizing import plan_sizing
from tests.workspace.builders import INFERENCE, NOW, SETTINGS, TUNING, changed

TRAINING = """
training_config:
  QuantizationConfig: {load_in_8bit: true}
  LoraConfig: {r: 64, target_modules: [q_proj, v_proj]}
  TrainingArguments: {per_device_train_batch_size: 2, max_length: 4096, num_train_epochs: 1}
"""
SERVING = """
vllm:
  max-model-len: 32768
  kv_cache_dtype: fp8_e4m3
  gpu-memory-utilization: 0.9
  max-num-seqs: 16
  tensor-parallel-size: 2
"""


def workspace(base: dict[str, Any], **changes: Any) -> Workspace:
    return msgspec.convert(changed(base, {key.replace("__", "."): value for key, value in changes.items()}), Workspace)


def model(name: str) -> Model:
    found = find_model(name)
    assert found is not None
    return found


def type_of(name: str) -> InstanceType:
    found = find_instance_type(name)
    assert found is not None
    return found


def test_without_a_config_the_presets_own_defaults_count() -> None:
    request = read_request(workspace(TUNING), model("phi-3-mini-128k-instruct"))
    assert request.tuning is not None
    assert (request.tuning.rank, request.tuning.batch, request.tuning.length, request.tuning.base_bits) == (
        16,
        4,
        1024,
        4,
    )
    tiny = read_request(workspace(TUNING), model("tiny-phi-3")).tuning
    assert tiny is not None
    assert (tiny.rank, tiny.batch, tiny.length) == (32, 16, 512)
    assert epochs_of(workspace(TUNING), model("tiny-phi-3")) == 14


def test_a_training_config_is_read() -> None:
    request = read_request(workspace(TUNING), model("phi-4"), TRAINING)
    assert request.tuning is not None
    assert (request.tuning.rank, request.tuning.batch, request.tuning.length) == (64, 2, 4096)
    assert request.tuning.base_bits == 8
    assert request.tuning.targets == ("q_proj", "v_proj")
    assert epochs_of(workspace(TUNING), model("phi-4"), TRAINING) == 1


def test_an_inference_config_is_read() -> None:
    demand = read_request(workspace(INFERENCE), model("phi-4"), SERVING).serving
    assert demand is not None
    assert (demand.context, demand.cache_bytes, demand.utilization, demand.sequences) == (32768, 1, 0.9, 16)
    assert demand.parallelism.tensor == 2
    own = read_request(workspace(INFERENCE), model("phi-4"), SERVING, context=100).serving
    assert own is not None
    assert own.context == 100


@pytest.mark.parametrize(
    "text", ["vllm: [", "vllm: 3", "- a", "vllm: {max-model-len: auto}", "vllm: {max-num-seqs: -1}"]
)
def test_what_cannot_be_read_counts_as_not_given(text: str) -> None:
    assert read_request(workspace(INFERENCE), model("phi-4"), text) == read_request(
        workspace(INFERENCE), model("phi-4")
    )


def test_a_models_own_cache_format_is_planned_with() -> None:
    demand = read_request(workspace(INFERENCE), model("deepseek-ai/DeepSeek-V4-Pro")).serving
    assert demand is not None
    assert demand.cache_bytes == 1


def test_parallelism_that_the_user_fixed_is_kept_or_refused() -> None:
    phi, g6 = model("phi-4"), type_of("g6.12xlarge")
    pairs = estimate_request(read_request(workspace(INFERENCE), phi, "vllm: {tensor-parallel-size: 2}"), phi, g6)
    assert (pairs.fits, pairs.tensor_parallel, pairs.pipeline_parallel) == (True, 2, 1)
    four = estimate_request(read_request(workspace(INFERENCE), phi, "vllm: {tensor-parallel-size: 4}"), phi, g6)
    assert not four.fits
    assert "40 heads and 10 KV heads do not divide among 4 GPUs" in four.why


@pytest.mark.parametrize(
    ("base", "preset", "text"),
    [
        pytest.param(TUNING, "phi-3-mini-128k-instruct", TRAINING, id="tuning"),
        pytest.param(INFERENCE, "phi-3-mini-128k-instruct", "vllm: {max-model-len: 16384}", id="serving"),
    ],
)
def test_the_controller_sizes_with_the_same_numbers(base: dict[str, Any], preset: str, text: str) -> None:
    kind = "tuning" if "tuning" in base else "inference"
    one = workspace(base, **{f"{kind}__preset__name": preset, f"{kind}__config": "mine"})
    key = "training_config.yaml" if kind == "tuning" else "inference_config.yaml"
    config = ConfigMap(metadata=ObjectMeta(name="mine"), data={key: text})
    observed = Observed(workspace=one, now=NOW, settings=SETTINGS, user_config=config)  # type: ignore[arg-type]
    resolved, cause = resolve_config(observed)
    assert cause is None
    sizing = plan_sizing(observed, resolved)
    found = model(preset)
    assert sizing.estimate == estimate_request(read_request(one, found, text), found, type_of("Standard_NC6s_v3"))
    assert sizing.estimate != estimate_request(read_request(one, found), found, type_of("Standard_NC6s_v3"))


def advice(one: Workspace, name: str) -> list[str]:
    found, type_ = model(name), type_of(one.resource.instanceType)
    request = read_request(one, found)
    estimate = estimate_request(request, found, type_)
    return [*advise(one, found, type_, request, estimate), *remarks(found, type_, request, estimate)]


@pytest.mark.parametrize(
    ("base", "changes", "says"),
    [
        pytest.param(
            INFERENCE,
            {"resource__count": 4, "inference__preset__name": "phi-3-mini-4k-instruct"},
            "resource.count: 4 is not acted on",
            id="a count",
        ),
        pytest.param(
            INFERENCE,
            {"resource__instanceType": "Standard_NC96ads_A100_v4", "inference__preset__name": "llama-3.3-70b-instruct"},
            "is gated: name a Secret with HF_TOKEN",
            id="a gated model",
        ),
        pytest.param(
            INFERENCE,
            {"resource__instanceType": "Standard_NC48ads_A100_v4", "inference__preset__name": "llama-3.3-70b-instruct"},
            "with gpu-memory-utilization: 0.95 in its config one node does, up to 39896 tokens",
            id="a little more memory would do",
        ),
        pytest.param(
            TUNING,
            {"resource__instanceType": "Standard_NC24ads_A100_v4", "tuning__preset__name": "llama-3.3-70b-instruct"},
            "cannot be served on the one Standard_NC24ads_A100_v4",
            id="tuned in 4 bits, served in 16",
        ),
        pytest.param(
            INFERENCE,
            {"resource__instanceType": "g5g.xlarge", "inference__preset__name": "phi-3-mini-4k-instruct"},
            "every image has to be built for it",
            id="another architecture",
        ),
        pytest.param(
            INFERENCE,
            {"resource__instanceType": "Standard_ND96isr_MI300X_v5", "inference__preset__name": "phi-4"},
            "build one for ROCm",
            id="another vendor's GPUs",
        ),
    ],
)
def test_what_will_be_ignored_or_fail_is_said(base: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    one = workspace(base, **changes)
    work = one.tuning or one.inference
    assert work is not None
    assert work.preset is not None
    found = " ".join(advice(one, work.preset.name))
    assert says in found


def test_admission_says_what_does_not_fit_and_is_silent_otherwise() -> None:
    assert admission_advice(workspace(TUNING)) == []
    large = workspace(TUNING, tuning__preset__name="llama-3.3-70b-instruct")
    assert "does not fit" in " ".join(admission_advice(large))
    bypassed = changed(TUNING, {"tuning.preset.name": "llama-3.3-70b-instruct"})
    bypassed["metadata"]["annotations"] = {"kaito.sh/bypass-resource-checks": "true"}
    assert admission_advice(msgspec.convert(bypassed, Workspace)) == []


def test_a_quantized_base_is_not_quantized_again() -> None:
    one = workspace(TUNING, tuning__preset__name="gpt-oss-20b", resource__instanceType="Standard_NC24ads_A100_v4")
    oss = model("gpt-oss-20b")
    estimate = estimate_request(read_request(one, oss), oss, type_of("Standard_NC24ads_A100_v4"))
    assert not estimate.fits
    assert "a second time" in estimate.why
    lora = read_request(workspace(TUNING, tuning__method="lora"), oss)
    unpacked = estimate_request(lora, oss, type_of("Standard_NC24ads_A100_v4"))
    assert unpacked.weights_bytes > 3 * (oss.figures.weights_bytes or 0) if oss.figures else False
    assert served_after(lora, oss, type_of("Standard_NC24ads_A100_v4")) is not None
