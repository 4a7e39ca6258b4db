"""One tuning run from loaded libraries to the written report."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# The step has its weights; a library that asks the hub for anything would wait for a network that pods may not have.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
# As in serving: a thread that waits spins over the gap between two parts of a step, and no longer.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch
import transformers

from kaito.runtime.data.dataset import EVAL, TRAIN, read_dataset
from kaito.runtime.errors import InputError, StepError
from kaito.runtime.step import Step
from kaito.runtime.tune.checkpoints import EVERY, Checkpoints
from kaito.runtime.tune.device import Device, find_device, use_threads
from kaito.runtime.tune.energy import EnergyMeter
from kaito.runtime.tune.frozen import speed_up_frozen_layers
from kaito.runtime.tune.launch import OUT_OF_MEMORY
from kaito.runtime.tune.memory import plan_memory
from kaito.runtime.tune.model import load_model, load_tokenizer, lora_config, save_adapter
from kaito.runtime.tune.observe import Observer
from kaito.runtime.tune.ranks import any_rank, is_first, join, least
from kaito.runtime.tune.remote import VARIABLE, CheckpointPusher
from kaito.runtime.tune.report import Run, make_report, write_report
from kaito.runtime.tune.request import TuneRequest
from kaito.runtime.tune.saved import batches_of_checkpoint, find_checkpoint
from kaito.runtime.tune.tokens import Encoder, Tokenized, tokenize
from kaito.runtime.tune.trainer import MAX_LENGTH, Batches, make_trainer, training_arguments
from kaito.runtime.tune.watchdog import Watchdog

PUSH_ON_STOP = 90.0  # seconds for the last checkpoint to reach the registry when the pod has to go


class OutOfMemory(StepError):
    """One process of several has no room: the launcher starts all again with the batch that `as_dict` names."""

    exit_code = OUT_OF_MEMORY

    def __init__(self, batches: Batches) -> None:
        super().__init__("OutOfMemory", "a GPU has not enough memory for the batch", "it starts again with half of it")
        self.batches = batches

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "batch": self.batches.size, "accumulate": self.batches.accumulate}


def train(step: Step, request: TuneRequest) -> Mapping[str, Any]:
    """Train and report. On SIGTERM: saves a checkpoint and raises StepError (reason Terminated)."""
    started = step.clock()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it asks for a package that would fetch code
    warnings.filterwarnings("ignore", category=FutureWarning)  # libraries warning each other; not the user's to mend
    if torch.cuda.is_available():
        torch.cuda.set_device(int(step.environ.get("LOCAL_RANK") or 0))
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(request.output / "tensorboard"))  # for report_to: tensorboard
    device, warning = find_device(request.config.model.dtype or request.config.model.torch_dtype)
    if warning:
        step.say("config warning", warning=warning)
    join(int(step.environ.get("WORLD_SIZE") or 1), is_cuda=device.is_cuda)
    transformers.set_seed(int(request.config.training.get("seed", 42)))
    step.progress.running("reading the data")
    tokenizer = load_tokenizer(request.model, request.config.model)
    train_rows, held = _rows(step, request, tokenizer)
    energy = EnergyMeter(torch.cuda.device_count() if device.is_cuda else 0)
    with step.saves_on_stop(), contextlib.ExitStack() as stack:
        saved = _pusher(step, request, stack)
        trainer, observer = _train(step, request, device, tokenizer, train_rows, held, saved)
        if step.stop.is_set():
            raise StepError("Terminated", "training was told to stop; a checkpoint is saved", "it resumes by itself")
    if not is_first():
        return {}
    step.progress.running("scoring the base and the tuned model")
    run = Run(request, device, trainer, tokenizer, train_rows, held, observer.losses, observer.eval_losses, energy)
    report = {**make_report(run), "seconds": round(step.clock() - started, 1)}
    _save_adapter(trainer.model, request)
    write_report(request.output, report)
    step.progress.update(evalLoss=report["evalLoss"], message="done")
    step.say("tuning is done", steps=report["steps"], evalLoss=report["evalLoss"], baseEvalLoss=report["baseEvalLoss"])
    shutil.rmtree(request.checkpoints, ignore_errors=True)
    return report


def _pusher(step: Step, request: TuneRequest, stack: contextlib.ExitStack) -> Callable[[Path], None]:
    """What is to be done with each checkpoint beside keeping it."""
    if not step.environ.get(VARIABLE) or step.is_quiet:
        return lambda checkpoint: None
    pusher = stack.enter_context(CheckpointPusher(step, request))

    def last_push() -> None:
        if step.stop.is_set() and not pusher.finish(PUSH_ON_STOP):
            step.say("the last checkpoint did not reach the registry in time")

    stack.callback(last_push)
    return pusher.offer


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
    step: Step, request: TuneRequest, device: Device, tokenizer: Any, rows: Tokenized, held: Tokenized,
    saved: Callable[[Path], None],
) -> tuple[Any, Observer]:  # fmt: skip
    """Train to the end or to a stop; when memory runs out, again from the checkpoint with half the batch."""
    batches = _first_batches(step, request)
    while True:
        try:
            return _attempt(step, request, device, tokenizer, rows, held, batches, saved)
        except (torch.OutOfMemoryError, MemoryError) as error:
            used = step.progress.snapshot().get("batch") or 1
            if used == 1:
                raise StepError(
                    "GpuOutOfMemory" if device.is_cuda else "OutOfMemory",
                    f"{device.name} has not enough memory for one row at a time",
                    "lower max_length, use qlora, or choose an instance type with more GPU memory",
                ) from error
        batches = Batches(used, step.progress.snapshot().get("accumulate") or 1, checkpointing=True).smaller()
        if int(step.environ.get("WORLD_SIZE") or 1) > 1:  # the others wait in a collective that never comes
            raise OutOfMemory(batches)
        if device.is_cuda:
            torch.cuda.empty_cache()
        step.say("out of memory; trying again with a smaller batch", batch=batches.size, accumulate=batches.accumulate)


def _first_batches(step: Step, request: TuneRequest) -> Batches | None:
    """What the launcher found in an earlier attempt; None where nothing was tried yet."""
    given = step.environ.get("KAITO_TRAIN_BATCH")
    if not given:
        return None
    found = json.loads(given)
    return Batches(int(found["batch"]), int(found["accumulate"]), checkpointing=True)


def _as_before(request: TuneRequest, batches: Batches) -> Batches:
    """The batches of the checkpoint that is gone on from, unless they have become smaller since.

    What fitted after memory had run out need not be found again by running out of it.
    """
    checkpoint = find_checkpoint(request.checkpoints, request.identity)
    before = batches_of_checkpoint(checkpoint) if checkpoint else None
    if before is None or before[0] >= batches.size:
        return batches
    return Batches(*before, checkpointing=True)


def _agreed(batches: Batches) -> Batches:
    """One plan for all processes: that of the GPU with the least room."""
    size = least(batches.size)
    (checkpointing,) = any_rank(batches.checkpointing)
    return Batches(size, batches.size * batches.accumulate // size, checkpointing)


def _planned_batches(request: TuneRequest, device: Device, model: Any, rows: Tokenized) -> Batches:
    """As the config says; on a GPU what it leaves open is found by what fits into the memory that is free."""
    given = request.config.training
    size = int(given.get("per_device_train_batch_size", 4))
    if not device.is_cuda:
        return Batches(size)
    free, _ = torch.cuda.mem_get_info()
    planned = plan_memory(model.config, [len(row.input_ids) for row in rows.rows], size, free)
    return Batches(planned.batch, planned.accumulate, planned.checkpointing)


def _attempt(
    step: Step, request: TuneRequest, device: Device, tokenizer: Any, rows: Tokenized, held: Tokenized,
    batches: Batches | None, saved: Callable[[Path], None],
) -> tuple[Any, Observer]:  # fmt: skip
    step.progress.running("loading the model")
    model = load_model(request.model, request.config, request.method, device)
    speed_up_frozen_layers(model, device)
    peft_config = lora_config(request.config.lora, model)
    batches = batches or _planned_batches(request, device, model, rows)
    batches = _agreed(_as_before(request, batches))
    step.progress.update(batch=batches.size, accumulate=batches.accumulate)
    arguments = training_arguments(
        request.config.training, device, request.checkpoints, has_eval=bool(held.rows), batches=batches
    )
    trainer = make_trainer(model, tokenizer, peft_config, arguments, rows, held)
    watchdog = Watchdog(step)
    observer = Observer(
        step, device, lambda: trainer._total_train_tokens, request.output / "progress.json", alive=watchdog.alive
    )
    with contextlib.ExitStack() as stack:
        if is_first():  # the others stand still when it does, and it can tell
            stack.enter_context(watchdog)
            trainer.add_callback(observer)
        every = step.number("KAITO_CHECKPOINT_SECONDS", EVERY)
        trainer.add_callback(Checkpoints(request.identity, batches, step.stop, every, saved=saved))
        checkpoint = find_checkpoint(request.checkpoints, request.identity)
        if checkpoint is not None:
            step.say("resuming", checkpoint=checkpoint.name)
        trainable, total = trainer.model.get_nb_trainable_parameters()
        use_threads(device, total, step.environ)
        step.say("training", trainable=trainable, parameters=total, device=device.name, dtype=device.dtype_name)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer, observer


def _save_adapter(model: Any, request: TuneRequest) -> None:
    """Written beside and renamed: `publish` never sees half an adapter."""
    beside = request.output / ".adapter.new"
    shutil.rmtree(beside, ignore_errors=True)
    save_adapter(model, beside, request.preset)
    shutil.rmtree(request.adapter, ignore_errors=True)
    beside.replace(request.adapter)
