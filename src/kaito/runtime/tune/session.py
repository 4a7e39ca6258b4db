"""One tuning run from loaded libraries to the written report."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Mapping
from typing import Any

# The step has its weights; a library that asks the hub for anything would wait for a network that pods may not have.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
# Threads that spin while they wait take the cores that they wait for: on a busy machine that is ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import transformers

from kaito.runtime.data.dataset import EVAL, TRAIN, read_dataset
from kaito.runtime.errors import InputError, StepError
from kaito.runtime.step import Step
from kaito.runtime.tune.checkpoints import EVERY, Checkpoints, find_checkpoint
from kaito.runtime.tune.device import Device, find_device, use_threads
from kaito.runtime.tune.model import load_model, load_tokenizer, lora_config, save_adapter
from kaito.runtime.tune.observe import Observer
from kaito.runtime.tune.report import SCORED_ROWS, perplexity, score, versions, write_report
from kaito.runtime.tune.request import TuneRequest
from kaito.runtime.tune.tokens import Encoder, Tokenized, tokenize
from kaito.runtime.tune.trainer import MAX_LENGTH, make_trainer, training_arguments


def train(step: Step, request: TuneRequest) -> Mapping[str, Any]:
    """Train and report. On SIGTERM: saves a checkpoint and raises StepError (reason Terminated)."""
    started = step.clock()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)  # libraries warning each other; not the user's to mend
    device, warning = find_device(request.config.model.dtype or request.config.model.torch_dtype)
    if warning:
        step.say("config warning", warning=warning)
    transformers.set_seed(int(request.config.training.get("seed", 42)))
    step.progress.running("reading the data")
    tokenizer = load_tokenizer(request.model, request.config.model)
    train_rows, held = _rows(step, request, tokenizer)
    with step.saves_on_stop():
        trainer, observer = _train(step, request, device, tokenizer, train_rows, held)
        if step.stop.is_set():
            raise StepError("Terminated", "training was told to stop; a checkpoint is saved", "it resumes by itself")
    step.progress.running("scoring the base and the tuned model")
    report = _report(request, device, trainer, observer, train_rows, held)
    report["seconds"] = round(step.clock() - started, 1)
    _save_adapter(trainer.model, request)
    write_report(request.output, report)
    step.progress.update(evalLoss=report["evalLoss"], message="done")
    step.say("tuning is done", steps=report["steps"], evalLoss=report["evalLoss"], baseEvalLoss=report["baseEvalLoss"])
    shutil.rmtree(request.checkpoints, ignore_errors=True)
    return report


def _rows(step: Step, request: TuneRequest, tokenizer: Any) -> tuple[Tokenized, Tokenized]:
    training = request.config.training
    encoder = Encoder(
        tokenizer, training.get("assistant_only_loss", True), training.get("completion_only_loss") is not False
    )
    limit = _max_length(training, tokenizer)
    train_rows = tokenize(read_dataset(request.data / TRAIN), encoder, limit)
    has_eval = (request.data / EVAL).exists()
    held = tokenize(read_dataset(request.data / EVAL), encoder, limit) if has_eval else Tokenized()
    for rejection in train_rows.rejections[:10]:
        step.say("row rejected", file=rejection.file, line=rejection.line, why=rejection.why)
    if not train_rows.rows:
        reasons = "; ".join(str(one) for one in train_rows.rejections[:10])
        raise InputError(
            "DataUnusable", f"no row can be trained on: {reasons}", "correct the data or the chat template"
        )
    step.say(
        "data is read",
        rows=len(train_rows.rows),
        tokens=train_rows.tokens,
        rejected=len(train_rows.rejections),
        truncated=train_rows.truncated_rows,
        held=len(held.rows),
    )
    return train_rows, held


def _max_length(training: Mapping[str, Any], tokenizer: Any) -> int | None:
    if "max_length" in training:
        given = training["max_length"]
        return None if given is None else int(given)
    return min(MAX_LENGTH, int(tokenizer.model_max_length))


def _train(
    step: Step, request: TuneRequest, device: Device, tokenizer: Any, rows: Tokenized, held: Tokenized
) -> tuple[Any, Observer]:
    """Train to the end or to a stop; when memory runs out, again from the checkpoint with half the batch."""
    batch = int(request.config.training.get("per_device_train_batch_size", 4))
    accumulate = 1
    while True:
        try:
            return _attempt(step, request, device, tokenizer, rows, held, batch, accumulate)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if batch == 1:
                raise StepError(
                    "OutOfMemory",
                    f"{device.name} has not enough memory for one row at a time",
                    "lower max_length, use qlora, or choose an instance type with more GPU memory",
                ) from error
        batch, accumulate = batch // 2, accumulate * 2
        if device.is_cuda:
            torch.cuda.empty_cache()
        step.say("out of memory; trying again with a smaller batch", batch=batch, accumulate=accumulate)


def _attempt(
    step: Step, request: TuneRequest, device: Device, tokenizer: Any, rows: Tokenized, held: Tokenized, batch: int,
    accumulate: int,
) -> tuple[Any, Observer]:  # fmt: skip
    step.progress.running("loading the model")
    model = load_model(request.model, request.config, request.method, device)
    peft_config = lora_config(request.config.lora, model, request.preset)
    arguments = training_arguments(
        request.config.training,
        device,
        request.checkpoints,
        has_eval=bool(held.rows),
        batch=batch,
        accumulate=accumulate,
    )
    trainer = make_trainer(model, tokenizer, peft_config, arguments, rows.rows, held.rows)
    observer = Observer(step, device, lambda: trainer._total_train_tokens, request.output / "progress.json")
    trainer.add_callback(observer)
    every = step.number("KAITO_CHECKPOINT_SECONDS", EVERY)
    trainer.add_callback(Checkpoints(request.identity, step.stop, every))
    checkpoint = find_checkpoint(request.checkpoints, request.identity)
    if checkpoint is not None:
        step.say("resuming", checkpoint=checkpoint.name)
    trainable, total = trainer.model.get_nb_trainable_parameters()
    use_threads(device, total, step.environ)
    step.say("training", trainable=trainable, parameters=total, device=device.name, dtype=device.dtype_name)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer, observer


def _report(
    request: TuneRequest, device: Device, trainer: Any, observer: Observer, rows: Tokenized, held: Tokenized
) -> dict[str, Any]:
    """Everything but the time it took."""
    scored = held.rows or rows.rows[:SCORED_ROWS]
    tuned = score(trainer.model, scored)
    with trainer.model.disable_adapter():
        base = score(trainer.model, scored)
    return {
        "identity": request.identity,
        "preset": request.preset,
        "method": request.method,
        "evalLoss": round(tuned, 6),
        "baseEvalLoss": round(base, 6),
        "perplexity": perplexity(tuned),
        "basePerplexity": perplexity(base),
        "scoredOn": "eval" if held.rows else "train",
        "scoredRows": len(scored),
        "trainRows": len(rows.rows),
        "trainTokens": int(trainer._total_train_tokens),
        "rejectedRows": len(rows.rejections) + len(held.rejections),
        "truncatedRows": rows.truncated_rows,
        "truncatedTokens": rows.truncated_tokens,
        "steps": trainer.state.global_step,
        "epochs": float(trainer.state.epoch or 0),
        "seed": int(trainer.args.seed),
        "batch": trainer.args.per_device_train_batch_size,
        "accumulate": trainer.args.gradient_accumulation_steps,
        "dataDigest": request.data_digest,
        "device": device.describe(),
        "peakMemoryBytes": device.peak_memory(),
        "versions": versions(),
        "config": {
            "LoraConfig": dict(request.config.lora),
            "QuantizationConfig": dict(request.config.quantization),
            "TrainingArguments": dict(request.config.training),
        },
        "curve": {"train": observer.losses, "eval": observer.eval_losses},
        "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _save_adapter(model: Any, request: TuneRequest) -> None:
    """Written beside and renamed: `publish` never sees half an adapter."""
    beside = request.output / ".adapter.new"
    shutil.rmtree(beside, ignore_errors=True)
    save_adapter(model, beside, request.preset)
    shutil.rmtree(request.adapter, ignore_errors=True)
    beside.replace(request.adapter)
