"""Packing isolation, precision, target modules, running out of memory, losses that are no numbers."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.data.dataset import read_dataset
from kaito.runtime.errors import InputError, RuntimeFailure, StepError
from kaito.runtime.progress import Progress
from kaito.runtime.step import Step
from kaito.runtime.tune.main import tune
from tests.runtime.tiny import chats, make_model
from tests.runtime.tune.runs import adapter, environment, largest_difference, stop_after, write_config, write_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def step(root: Path, model: Path, sections: dict[str, Any], rows: Any = None, held: Any = (), **variables: str) -> Step:
    data = write_data(root / "data", chats(12) if rows is None else rows, held)
    config = write_config(root / "config.yaml", **sections)
    return Step("tune", environment(root, model, data, config, **variables), Progress("tune"))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_do_not_see_each_other(attention: str, model: Path, tmp_path: Path) -> None:
    """The loss of each row is the same packed into one sequence with others and alone."""
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from kaito.runtime.tune.config import ModelConfig
    from kaito.runtime.tune.model import load_tokenizer
    from kaito.runtime.tune.tokens import Encoder, tokenize

    torch.set_num_threads(1)
    data = write_data(tmp_path / "data", chats(8))
    encoder = Encoder(load_tokenizer(model, ModelConfig()))
    rows = tokenize(read_dataset(data / "train.arrow"), encoder, None).rows
    loaded = AutoModelForCausalLM.from_pretrained(model, attn_implementation=attention).eval()
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)

    def losses(group: list[Any]) -> torch.Tensor:
        batch = collate([{"input_ids": row.input_ids, "labels": row.labels} for row in group])
        labels = batch.pop("labels")
        with torch.inference_mode():
            logits = loaded(**batch, use_cache=False).logits
        each = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="none")
        return each[labels[0, 1:] != -100]

    together = losses(rows)
    alone = torch.cat([losses([row]) for row in rows])
    assert together.shape == alone.shape
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("training", "lora", "quantization", "method"),
    [
        ({"packing": True, "max_length": 128}, {}, {}, "lora"),
        ({"padding_free": False}, {"use_rslora": True}, {}, "lora"),
        ({}, {"use_dora": True}, {}, "lora"),
        ({"gradient_checkpointing": True}, {"modules_to_save": ["embed_tokens", "lm_head"]}, {}, "qlora"),
        ({"gradient_accumulation_steps": 2}, {"r": 4}, {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "qlora"),
    ],
    ids=["packing", "padding and rslora", "dora", "checkpointing and embeddings", "fp4"],
)
def test_settings(
    training: dict[str, Any],
    lora: dict[str, Any],
    quantization: dict[str, Any],
    method: str,
    model: Path,
    tmp_path: Path,
) -> None:
    sections = {
        "TrainingArguments": {"num_train_epochs": 4, "learning_rate": 1e-2, **training},
        "LoraConfig": lora,
        "QuantizationConfig": quantization,
    }
    made = step(tmp_path, model, sections, KAITO_METHOD=method)
    tune(made)
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert report["evalLoss"] < report["baseEvalLoss"]
    fields = made.progress.snapshot()
    assert fields["trainStep"] == fields["totalSteps"] == report["steps"]
    assert fields["tokensPerSecond"] > 0


def test_tensorboard_gets_what_it_reads_beside_the_adapter(model: Path, tmp_path: Path) -> None:
    sections = {"TrainingArguments": {"max_steps": 2, "report_to": "tensorboard"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
        tune(step(tmp_path, model, sections))
    (events,) = (tmp_path / "out" / "tensorboard").glob("events.out.tfevents.*")
    assert b"train/loss" in events.read_bytes()


def test_batches_that_are_padded_hold_rows_of_like_length_and_resume(model: Path, tmp_path: Path) -> None:
    """The order is the same after a restart: what was trained until the stop is not trained again."""
    rows = chats(24)
    training = {"padding_free": False, "group_by_length": True, "num_train_epochs": 3, "learning_rate": 1e-2}
    results = []
    for name, stop_at in (("whole", None), ("broken", 8)):
        root = tmp_path / name
        root.mkdir()
        made = step(root, model, {"TrainingArguments": training}, rows, KAITO_CHECKPOINT_SECONDS="3600")
        if stop_at:
            stop_after(made, stop_at)
            with pytest.raises(StepError, match="told to stop"):
                tune(made)
            made = Step("tune", made.environ, Progress("tune"))
        tune(made)
        results.append(adapter(root))
    assert largest_difference(*results) < 1e-4


@pytest.mark.parametrize("stop_at", [3, 6], ids=["within an epoch", "where an epoch ends"])
def test_evaluating_leaves_no_trace_that_a_resumed_run_lacks(stop_at: int, model: Path, tmp_path: Path) -> None:
    training = {"num_train_epochs": 4, "eval_strategy": "epoch", "learning_rate": 1e-2}
    results = []
    for name in ("whole", "broken"):
        root = tmp_path / name
        root.mkdir()
        sections = {"TrainingArguments": training, "LoraConfig": {"lora_dropout": 0.1}}
        made = step(root, model, sections, chats(12), chats(3), KAITO_CHECKPOINT_SECONDS="3600")
        if name == "broken":
            stop_after(made, stop_at)
            with pytest.raises(StepError, match="told to stop"):
                tune(made)
            made = Step("tune", made.environ, Progress("tune"))
        tune(made)
        results.append(adapter(root))
    assert largest_difference(*results) < 1e-4
    assert len(json.loads((tmp_path / "whole" / "out" / "report.json").read_bytes())["curve"]["eval"]) == 4


def test_the_known_names_of_target_modules_fit_a_fused_architecture(model: Path, tmp_path: Path) -> None:
    names = ["k_proj", "q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj"]
    sections = {"LoraConfig": {"target_modules": names}, "TrainingArguments": {"max_steps": 2}}
    tune(step(tmp_path, model, sections, KAITO_METHOD="qlora"))
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_bytes())
    assert config["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    assert config["base_model_name_or_path"] == "tiny-phi-3"


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"LoraConfig": {"target_modules": ["qkv_porj"]}}, "no module 'qkv_porj'"),
        ({"LoraConfig": {"modules_to_save": ["head"]}}, "no module 'head'"),
        ({"TrainingArguments": {"optim": "nonsense"}}, "TrainingArguments"),
        ({"TrainingArguments": {"lr_scheduler_type": "nonsense"}}, "TrainingArguments"),
        ({"TrainingArguments": {"report_to": "wandb"}}, "wandb"),
        ({"TrainingArguments": {"report_to": "nonsense"}}, "nonsense"),
        ({"QuantizationConfig": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf5"}}, "QuantizationConfig"),
        ({"ModelConfig": {"attn_implementation": "nonsense"}}, "cannot be loaded"),
        ({"ModelConfig": {"chat_template": "/absent"}}, "chat_template"),
        ({"ModelConfig": {"chat_template": "{% for %}"}}, "chat template"),
    ],
)
def test_what_only_the_libraries_can_refuse(sections: dict[str, Any], words: str, model: Path, tmp_path: Path) -> None:
    method = "qlora" if "QuantizationConfig" in sections else "lora"
    with pytest.raises(InputError) as caught:
        tune(step(tmp_path, model, sections, KAITO_METHOD=method))
    assert words in caught.value.message


def test_a_loss_that_is_no_number_stops_with_the_step(model: Path, tmp_path: Path) -> None:
    sections = {"TrainingArguments": {"learning_rate": 1e30, "max_grad_norm": 0, "num_train_epochs": 20}}
    with pytest.raises(InputError) as caught:
        tune(step(tmp_path, model, sections))
    assert caught.value.reason == "LossNotFinite"
    assert re.search(r"at step \d+ .* of the rows (rows\.jsonl:\d+, ){3}rows\.jsonl:\d+$", caught.value.message)


def test_running_out_of_memory_halves_the_batch_and_keeps_the_rows_a_step(model: Path, tmp_path: Path) -> None:
    """A model that takes only so many tokens at once, as a small GPU does."""
    import torch
    from transformers.models.phi3.modeling_phi3 import Phi3Model

    made = step(tmp_path, model, {"TrainingArguments": {"num_train_epochs": 1, "per_device_train_batch_size": 4}})
    forward = Phi3Model.forward
    refused = threading.Event()

    def small(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.training and kwargs["position_ids"].shape[-1] > 60:
            refused.set()
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Phi3Model, "forward", small)  # the one thing that a CPU cannot show by itself
        stop_after(made, 2)
        with pytest.raises(StepError, match="told to stop"):
            tune(made)
        assert refused.is_set()
        refused.clear()
        tune(Step("tune", made.environ, Progress("tune")))
        assert not refused.is_set(), "what was found to fit is known after a restart"
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert report["batch"] * report["accumulate"] == 4
    assert report["batch"] < 4
    assert report["steps"] == 3


@pytest.mark.parametrize("missing", ["data", "report", "model"])
def test_steps_before_have_to_be_done(missing: str, model: Path, tmp_path: Path) -> None:
    made = step(tmp_path, model, {})
    if missing == "data":
        (tmp_path / "data" / "train.arrow").unlink()
    elif missing == "report":
        (tmp_path / "data" / "report.json").unlink()
    else:
        made.environ = {**made.environ, "KAITO_MODEL_DIR": str(tmp_path / "absent")}
    with pytest.raises(RuntimeFailure) as caught:
        tune(made)
    assert caught.value.reason in ("DataMissing", "ModelMissing")


def test_the_adapter_reloads_with_equal_logits(tmp_path: Path) -> None:
    """The real Phi-3-mini architecture, its layers cut down: trained, saved, loaded again by PEFT on the same base."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = make_model(tmp_path / "phi", hidden=96, layers=2)
    sections = {"TrainingArguments": {"num_train_epochs": 6, "learning_rate": 1e-2}}
    tune(step(tmp_path, folder, sections, KAITO_METHOD="lora"))
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    from kaito.runtime.tune.config import ModelConfig
    from kaito.runtime.tune.model import load_tokenizer
    from kaito.runtime.tune.report import score
    from kaito.runtime.tune.tokens import Encoder, tokenize

    rows = tokenize(
        read_dataset(tmp_path / "data" / "train.arrow"), Encoder(load_tokenizer(folder, ModelConfig())), None
    )
    base = AutoModelForCausalLM.from_pretrained(folder)
    assert score(base, rows.rows) == pytest.approx(report["baseEvalLoss"], abs=1e-4)
    tuned = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")
    assert score(tuned, rows.rows) == pytest.approx(report["evalLoss"], abs=1e-4)
    with torch.inference_mode():
        ids = torch.tensor([rows.rows[0].input_ids])
        apart = tuned(input_ids=ids).logits
        merged = tuned.merge_and_unload()(input_ids=ids).logits
    assert torch.allclose(apart, merged, atol=1e-4)
