"""From options to a worker that can run: everything that needs torch, imported only while the server already listens.

The environment below is read by the libraries while they are imported, so it is set before.
"""

from __future__ import annotations

import os

# A step has hundreds of parallel parts, tens of microseconds apart. A thread that sleeps in between takes longer to
# wake than to work, and one that spins for long takes the core that others wait for: it spins over such a gap alone.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a request is one text
# The weights are here; a library that asks the hub for anything would wait for a network that pods may not have.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from kaito.runtime.errors import InputError
from kaito.runtime.limits import free_memory, usable_cores
from kaito.runtime.serve.engines.builtin.engine import BuiltinOptions
from kaito.runtime.serve.engines.builtin.kv import BLOCK, blocks_for
from kaito.runtime.serve.engines.builtin.model import StepModel, load_step_model
from kaito.runtime.serve.engines.builtin.scheduler import Limits
from kaito.runtime.serve.engines.builtin.vocabulary import TokenizerVocabulary
from kaito.runtime.serve.engines.builtin.worker import Worker

KV_SHARE = 0.25  # of the memory that is free once the weights are loaded, on a CPU that others use too
KV_SHARE_OF_GPU = 0.8
MIN_CONTEXT = 256  # tokens; with less room nobody can be answered
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
    count = wanted or (1 if model.parameters < SMALL_MODEL else usable_cores())
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _limits(model: StepModel, options: BuiltinOptions) -> Limits:
    """Room for keys and values. Without a wish of the user's, the context is cut to what fits; never a wish."""
    room = options.kv_bytes or _free_bytes(model.device)
    pool = model.attention.pool
    blocks = room // (pool.bytes_per_token * BLOCK)
    tokens = blocks * BLOCK
    if tokens < (options.max_length or MIN_CONTEXT):
        raise InputError(
            "MemoryTooSmall",
            f"{room >> 20} MiB for keys and values hold {tokens} tokens, and the context is {model.context_length}",
            "give the pod more memory, or set max_model_len lower in inference_config.yaml",
        )
    if tokens < model.context_length:
        print(f"the context is cut from {model.context_length} to {tokens} tokens, which fit into memory", flush=True)
        model.context_length = int(tokens)
    limits = Limits(**options.limits)
    pool.resize(min(blocks, (limits.max_running + limits.kept_prefixes) * blocks_for(model.context_length)))
    return limits


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * KV_SHARE_OF_GPU)
    return int(free_memory() * KV_SHARE)
