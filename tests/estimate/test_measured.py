"""Measured against predicted: real tuning steps and forwards with a KV cache, within 10 % of the formulas.

On a CPU with the formulas' 32-bit form: small models by torch's own record of every tensor that is made and freed,
which no other process disturbs; larger ones by resident memory, where the framework's own part is measured and given,
compared both with and without it, so that a large framework cannot hide an error. With a GPU the 16-bit form.
"""

import gc
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kaito.catalog.models import Figures
from kaito.estimate import activations, kv
from kaito.estimate.tuning import TuningSettings, step_memory

PROBE = Path(__file__).parent / "step_probe.py"
KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
GROUPED = dict(zip(KEYS, (4096, 256, 704, 2, 8, 2), strict=True))
WORDY = dict(zip(KEYS, (65536, 128, 352, 2, 4, 4), strict=True))
WIDE = dict(zip(KEYS, (4096, 512, 2048, 2, 8, 8), strict=True))
SMALL = dict(zip(KEYS, (32768, 512, 1408, 8, 8, 8), strict=True))
MIDDLE = dict(zip(KEYS, (32768, 768, 2048, 8, 12, 4), strict=True))
LARGER = dict(zip(KEYS, (32000, 2048, 5632, 22, 32, 4), strict=True))
LARGE = dict(zip(KEYS, (32000, 4096, 11008, 32, 32, 32), strict=True))
WITHIN = 0.10


def measure(device: str, job: str, shape: dict[str, int], **asked: Any) -> tuple[int, int]:
    """(framework, peak) in bytes. The allocator gives back at once what is freed: the peak is of live tensors."""
    wanted = {"device": device, "job": job, "shape": shape, "rank": 16, "checkpointing": False, "folder": "", **asked}
    quiet = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, str(PROBE), json.dumps(wanted)],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **quiet, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return found["framework"], found["peak"]


def figures(shape: dict[str, int], number_bytes: int) -> Figures:
    vocabulary, hidden, inner, layers, heads, kv_heads = (shape[key] for key in KEYS)
    attention = 2 * hidden * hidden + 2 * hidden * hidden * kv_heads // heads
    parameters = 2 * vocabulary * hidden + layers * (attention + 3 * hidden * inner + 2 * hidden) + hidden
    return Figures(
        weights_bytes=parameters * number_bytes,
        hidden_size=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        vocabulary=vocabulary,
        intermediate=inner,
    )


def predict(job: str, shape: dict[str, int], batch: int, length: int, number_bytes: int, checkpointing: bool) -> int:
    """Bytes above the framework's own."""
    made = figures(shape, number_bytes)
    if job == "serve":
        cache = batch * kv.bytes_for_context(made, length, cache_bytes=number_bytes)
        forward = activations.forward_bytes(made, batch * length, number_bytes=number_bytes)
        return (made.weights_bytes or 0) + cache + forward
    settings = TuningSettings(16, batch, length, checkpointing, 4 if job == "qlora" else 16)
    return step_memory(made, settings, number_bytes=number_bytes, framework=0).total


def peak_of_tensors(job: str, shape: dict[str, int], batch: int, length: int, checkpointing: bool) -> int:
    """The most bytes that tensors took at one time, the model's own included."""
    from torch.profiler import ProfilerActivity, profile

    from tests.estimate import step_probe

    asked = {"device": "cpu", "job": job, "folder": "", "rank": 16, "checkpointing": checkpointing}
    gc.collect()  # what an earlier test left is not to be freed while this one is counted
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        step_probe.run(asked, shape, batch, length)
    recorded: Any = profiled.profiler
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))


@pytest.mark.filterwarnings("ignore")  # the libraries warn each other
@pytest.mark.parametrize(
    ("job", "shape", "batch", "length", "checkpointing"),
    [
        pytest.param("lora", GROUPED, 2, 128, True, id="lora, grouped heads, checkpointing"),
        pytest.param("lora", WORDY, 2, 256, False, id="lora, a large vocabulary", marks=pytest.mark.soak),
        pytest.param("lora", GROUPED, 4, 512, False, id="lora, four rows of 512", marks=pytest.mark.soak),
        pytest.param("lora", WIDE, 1, 512, True, id="lora, one row, wide layers", marks=pytest.mark.soak),
        pytest.param("serve", GROUPED, 2, 256, False, id="serving, grouped heads"),
        pytest.param("serve", WIDE, 1, 512, False, id="serving, wide layers"),
        pytest.param("serve", WORDY, 4, 256, False, id="serving, a large vocabulary"),
    ],
)
def test_by_every_tensor(job: str, shape: dict[str, int], batch: int, length: int, checkpointing: bool) -> None:
    pytest.importorskip("torch")
    measured = peak_of_tensors(job, shape, batch, length, checkpointing)
    assert predict(job, shape, batch, length, 4, checkpointing) == pytest.approx(measured, rel=WITHIN)


@pytest.mark.soak  # resident memory is measured rightly on a quiet machine only
@pytest.mark.parametrize(
    ("job", "shape", "batch", "length", "checkpointing"),
    [
        pytest.param("lora", SMALL, 2, 256, False, id="lora 59M"),
        pytest.param("lora", MIDDLE, 4, 256, True, id="lora 101M, checkpointing"),
        pytest.param("serve", SMALL, 4, 1024, False, id="serving 59M"),
        pytest.param("serve", MIDDLE, 4, 1024, False, id="serving 101M, grouped heads"),
    ],
)
def test_on_a_cpu(job: str, shape: dict[str, int], batch: int, length: int, checkpointing: bool) -> None:
    framework, peak = measure("cpu", job, shape, batch=batch, length=length, checkpointing=checkpointing)
    predicted = predict(job, shape, batch, length, 4, checkpointing)
    assert framework + predicted == pytest.approx(peak, rel=WITHIN)
    assert predicted == pytest.approx(peak - framework, rel=WITHIN)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("shape", [MIDDLE, LARGER, LARGE], ids=["101M", "1.1B", "6.7B"])
@pytest.mark.parametrize("job", ["lora", "qlora", "serve"])
def test_on_a_gpu(job: str, shape: dict[str, int], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU")
    folder = str(tmp_path) if job == "qlora" else ""
    _, peak = measure("cuda", job, shape, batch=4, length=1024, checkpointing=job != "serve", folder=folder)
    assert predict(job, shape, 4, 1024, 2, True) == pytest.approx(peak, rel=WITHIN)
