"""Models are found by preset name, alias and Hugging Face id; tuning defaults are whole documents."""

import pytest
import yaml

from kaito.catalog.engine import engine_flags
from kaito.catalog.models import find_model, model_names, nearest_models, tuning_config


@pytest.mark.parametrize(
    ("name", "huggingface"),
    [
        pytest.param("phi-3-mini-128k-instruct", "microsoft/Phi-3-mini-128k-instruct", id="preset"),
        pytest.param("Phi-3-Mini-128k-Instruct", "microsoft/Phi-3-mini-128k-instruct", id="any case"),
        pytest.param("gemma-3-4b-instruct", "google/gemma-3-4b-it", id="alias"),
        pytest.param("microsoft/phi-4", "microsoft/phi-4", id="id"),
        pytest.param("someone/some-model", "someone/some-model", id="an id that is not in the catalogue"),
    ],
)
def test_names_lead_to_a_model(name: str, huggingface: str) -> None:
    found = find_model(name)
    assert found is not None
    assert found.huggingface == huggingface
    assert found.source == {"huggingface": huggingface, "revision": found.revision}


def test_presets_are_pinned_to_a_commit_and_others_follow_main() -> None:
    phi, other = find_model("phi-3-mini-128k-instruct"), find_model("someone/some-model")
    assert phi is not None
    assert other is not None
    assert (phi.revision, other.revision) == ("072cb7562cb8c4adf682a8e186aaafa49469eb5d", "main")
    assert phi.image == "mcr.microsoft.com/aks/kaito/kaito-phi-3-mini-128k-instruct:0.2.0"
    known = [model for name in model_names() if (model := find_model(name)) and model.revision != "main"]
    assert len({model.huggingface for model in known}) == 30
    assert all(len(model.revision) == 40 for model in known)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        pytest.param(
            "qwen/qwen3.5-9b", {"tool-call-parser": "qwen3_coder", "gdn-prefill-backend": "triton"}, id="name"
        ),
        pytest.param(
            "gpt-oss-20b", {"reasoning-parser": "openai_gptoss", "tool-call-parser": "openai"}, id="by family"
        ),
        pytest.param("deepseek-r1-distill-llama-8b", {"reasoning-parser": "deepseek_r1"}, id="the longest beginning"),
        pytest.param("deepseek-ai/DeepSeek-V4-Pro", {"kv-cache-dtype": "fp8"}, id="a cache format"),
        pytest.param("phi-3-mini-128k-instruct", {}, id="nothing of its own"),
    ],
)
def test_what_vllm_has_to_be_told(name: str, flags: dict[str, str]) -> None:
    found = find_model(name)
    assert found is not None
    told = engine_flags(found)
    assert flags.items() <= told.items()
    assert told.get("enable-auto-tool-choice", False) is ("tool-call-parser" in told)


@pytest.mark.parametrize("name", ["", "phi-9", "a/", "/b", "a/b/c"])
def test_what_is_no_model_is_not_found(name: str) -> None:
    assert find_model(name) is None


def test_the_built_in_model_brings_its_own_weights() -> None:
    found = find_model("tiny-phi-3")
    assert found is not None
    assert found.source == {"builtin": "tiny-phi-3"}


def test_a_miss_names_the_nearest() -> None:
    assert nearest_models("phi-3-mini-128k")[0] == "phi-3-mini-128k-instruct"


def test_tuning_defaults_by_method() -> None:
    model = find_model("phi-3-mini-128k-instruct")
    assert model is not None
    lora, qlora = (yaml.safe_load(tuning_config(model, method))["training_config"] for method in ("lora", "qlora"))
    assert not lora["QuantizationConfig"]["load_in_4bit"]
    assert qlora["QuantizationConfig"]["load_in_4bit"]
    assert lora["LoraConfig"] == qlora["LoraConfig"]


def test_another_method_is_refused() -> None:
    model = find_model("tiny-phi-3")
    assert model is not None
    with pytest.raises(ValueError, match="not one of lora, qlora"):
        tuning_config(model, "full")
