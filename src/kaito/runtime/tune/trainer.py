"""TRL's SFTTrainer, set up: arguments out of the config and the device, tokens in, an adapter out."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from kaito.runtime.errors import InputError
from kaito.runtime.tune.device import Device
from kaito.runtime.tune.faults import NotFinite, rows_of_batch
from kaito.runtime.tune.order import LengthSorted
from kaito.runtime.tune.tokens import Tokenized

# What is not said in the config. Batches are concatenated without padding, so a batch of 4 short rows costs their
# tokens and no more.
DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "seed": 42,
    "report_to": "none",
    "save_strategy": "no",
    "save_total_limit": 2,
    "dataloader_num_workers": 0,
    "ddp_find_unused_parameters": False,
}
MAX_LENGTH = 1024  # tokens of a row, unless the config or the model says less
SORTED = "group_by_length"


@dataclass(frozen=True)
class Batches:
    """How many rows go through at once, how often before a step, and whether activations are recomputed."""

    size: int
    accumulate: int = 1
    checkpointing: bool = False

    def smaller(self) -> Batches:
        """The same rows a step, in half the memory."""
        return Batches(self.size // 2, self.accumulate * 2, self.checkpointing)


def training_arguments(
    given: Mapping[str, Any], device: Device, output: Path, *, has_eval: bool, batches: Batches
) -> SFTConfig:
    """SFTConfig for this device. Raises InputError."""
    options = {**DEFAULTS, "gradient_checkpointing": batches.checkpointing, **given}
    is_packed = bool(options.get("packing"))
    options["padding_free"] = options.get("padding_free", not is_packed)
    if options["padding_free"] and not is_packed:
        options["max_length"] = None  # rows are cut before, where the report counts them
    elif is_packed:
        options.setdefault("max_length", MAX_LENGTH)
    else:
        options.setdefault("train_sampling_strategy", SORTED)
    options["per_device_train_batch_size"] = batches.size
    options["gradient_accumulation_steps"] = batches.accumulate * int(options.get("gradient_accumulation_steps", 1))
    options.update(_precision(device))
    if device.is_cuda and importlib.util.find_spec("liger_kernel"):
        options.setdefault("use_liger_kernel", True)
    if not has_eval:
        options.update(eval_strategy="no", do_eval=False)
    options.update(
        output_dir=str(output),
        disable_tqdm=True,
        assistant_only_loss=False,  # the labels say it already
        completion_only_loss=False,
        dataloader_pin_memory=device.is_cuda,
        shuffle_dataset=False,
        dataset_num_proc=None,
    )
    try:
        return SFTConfig(**options)
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise _refused("TrainingArguments", error) from error


def _refused(section: str, error: Exception) -> InputError:
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError("ConfigInvalid", f"training_config.yaml: {section}: {words}", "correct the ConfigMap")


def _precision(device: Device) -> dict[str, Any]:
    return {
        "use_cpu": not device.is_cuda,
        "bf16": device.dtype is torch.bfloat16,
        "fp16": device.is_cuda and device.dtype is torch.float16,
        "tf32": True if device.is_cuda and torch.cuda.get_device_capability() >= (8, 0) else None,
    }


class Trainer(SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """Stops at the batch whose loss is no number, before it reaches the weights; keeps its order over a restart."""

    rows: Tokenized = Tokenized()

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        loss = super().training_step(model, inputs, *arguments, **options)
        value = float(loss)
        if not math.isfinite(value):
            named = rows_of_batch(inputs, self.rows.rows, self.rows.names)
            raise NotFinite(self.state.global_step + 1, self.state.epoch or 0.0, value, named)
        return loss

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """Without a trace in the random state: a resumed run need not evaluate where the first one did."""
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
            return super().evaluate(*arguments, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != SORTED:
            return super()._get_train_sampler(train_dataset)
        lengths = [len(ids) for ids in dataset["input_ids"]]
        return LengthSorted(lengths, self.args.train_batch_size * self.args.world_size, self.args.seed)


def make_trainer(
    model: Any,
    tokenizer: Any,
    peft_config: LoraConfig,
    arguments: SFTConfig,
    train: Tokenized,
    held: Tokenized,
    callbacks: Sequence[Any] = (),
) -> Trainer:
    """The trainer with its adapter in float32: half-precision adapters lose small updates. Raises InputError."""
    if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        model = _prepare_quantized(model, arguments)
    try:
        trainer = Trainer(
            model=model,
            args=arguments,
            processing_class=tokenizer,
            peft_config=peft_config,
            train_dataset=_dataset(train),
            eval_dataset=_dataset(held) if held.rows else None,
            callbacks=list(callbacks),
        )
    except torch.OutOfMemoryError:
        raise
    except (ValueError, TypeError, NotImplementedError, ImportError, RuntimeError) as error:
        raise _refused("LoraConfig or TrainingArguments", error) from error  # settings that do not go together
    trainer.rows = train
    trainer.remove_callback(PrinterCallback)  # prints dicts beside our own log
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return trainer


def _prepare_quantized(model: Any, arguments: SFTConfig) -> Any:
    accepted = inspect.signature(prepare_model_for_kbit_training).parameters
    options = {"use_gradient_checkpointing": arguments.gradient_checkpointing}
    if arguments.gradient_checkpointing and "gradient_checkpointing_kwargs" in accepted:
        options["gradient_checkpointing_kwargs"] = arguments.gradient_checkpointing_kwargs
    return prepare_model_for_kbit_training(model, **options)


def _dataset(rows: Tokenized) -> Dataset:
    columns = {"input_ids": [row.input_ids for row in rows.rows], "labels": [row.labels for row in rows.rows]}
    return Dataset.from_dict(columns)
