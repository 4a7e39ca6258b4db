"""From options to a worker that can run: everything that needs torch, imported only while the server already listens.

The environment below is read by the libraries while they are imported, so it is set before.
"""

from __future__ import annotations

import os

# Threads that spin while they wait take the cores that they wait for: on a busy machine that is ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a request is one text
# The weights are here; a library that asks the hub for anything would wait for a network that pods may not have.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import psutil
import torch
import transformers

from kaito.runtime.errors import InputError
from kaito.runtime.serve.engines.builtin.engine import BuiltinOptions
from kaito.runtime.serve.engines.builtin.model import StepModel, load_step_model
from kaito.runtime.serve.engines.builtin.scheduler import Limits
from kaito.runtime.serve.engines.builtin.vocabulary import TokenizerVocabulary
from kaito.runtime.serve.engines.builtin.worker import Worker

KV_SHARE = 0.25  # of the memory that is free once the weights are loaded, on a CPU that others use too
KV_SHARE_OF_GPU = 0.8
MIN_CONTEXT = 256  # tokens; with less room nobody can be answered
WIDE_TOKENS = 65536  # room for these in float32 is enough, and what is saved by bfloat16 is not needed
SMALL_MODEL = 30_000_000  # parameters; the matrices are too small to share, a second thread costs more than it brings


def load_worker(options: BuiltinOptions) -> tuple[StepModel, Worker, TokenizerVocabulary]:
    """Load the model and its adapters; the worker is not started. Raises InputError."""
    transformers.utils.logging.disable_progress_bar()
    model = load_step_model(options.folder, options.dtype, options.max_length, int8=options.quantization == "int8")
    use_threads(model, options.threads)
    worker = Worker(model, _limits(model, options))
    for adapter in options.adapters:
        worker.add_adapter(worker.read_adapter(adapter.name, adapter.folder, adapter.strength))
    return model, worker, TokenizerVocabulary(model.tokenizer, model.vocabulary_size, model.ends)


def use_threads(model: StepModel, wanted: int | None) -> None:
    """Threads that torch computes with on a CPU: `wanted`, else one for a small model, else one per core."""
    if model.device.type != "cpu":
        return
    cores = max(1, len(os.sched_getaffinity(0)))
    count = wanted or (1 if model.parameters < SMALL_MODEL else cores)
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _limits(model: StepModel, options: BuiltinOptions) -> Limits:
    """Room for keys and values. Without a wish of the user's, the context is cut to what fits; never a wish."""
    room = options.kv_bytes or _free_bytes(model.device)
    is_wide = room // (2 * model.bytes_per_token) >= WIDE_TOKENS
    if is_wide and model.like.dtype == torch.bfloat16 and model.device.type == "cpu":
        # A CPU multiplies float32 without converting it first: a quarter faster, for twice the memory.
        model.attention.dtype = torch.float32
        model.bytes_per_token *= 2
    tokens = room // model.bytes_per_token
    if tokens < (options.max_length or MIN_CONTEXT):
        raise InputError(
            "MemoryTooSmall",
            f"{room >> 20} MiB for keys and values hold {tokens} tokens, and the context is {model.context_length}",
            "give the pod more memory, or set max_model_len lower in inference_config.yaml",
        )
    if tokens < model.context_length:
        print(f"the context is cut from {model.context_length} to {tokens} tokens, which fit into memory", flush=True)
        model.context_length = int(tokens)
    return Limits(kv_tokens=int(tokens), **options.limits)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * KV_SHARE_OF_GPU)
    return int(psutil.virtual_memory().available * KV_SHARE)
