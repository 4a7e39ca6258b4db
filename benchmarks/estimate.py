"""The table of models by instance types in `docs/planning-table.md`, with KAITO's node count beside ours.

Without an option it prints the table, and how long a plan takes; with `--write` it writes the file. A test compares the
file with what this makes.
"""

from __future__ import annotations

import csv
import math
import resource
import statistics
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.catalog.models import Figures, Model, find_model
from kaito.estimate import DEFAULT_CONTEXT, Estimate, estimate_serving

TABLE = Path(__file__).parents[1] / "docs" / "planning-table.md"
EXAMPLE = Path(__file__).parents[1] / "examples" / "fine-tuning" / "kaito_workspace_tuning_phi_3.yaml"
GIB = 2**30
TYPES = (
    ("Standard_NC6s_v3", 16),
    ("Standard_NC4as_T4_v3", 16),
    ("Standard_NV36ads_A10_v5", 24),
    ("g6.12xlarge", 24),
    ("g6e.12xlarge", 48),
    ("Standard_NC24ads_A100_v4", 80),
    ("Standard_NC48ads_A100_v4", 80),
    ("Standard_NC96ads_A100_v4", 80),
    ("Standard_ND96amsr_A100_v4", 80),
    ("Standard_NC40ads_H100_v5", 94),
    ("Standard_ND96isr_H100_v5", 80),
    ("Standard_ND96isr_H200_v5", 141),
)
"""With the GiB of one GPU that KAITO's table gives, or would give, it."""


def kaito_nodes(figures: Figures, gpus: int, gpu_gib: int, context: int) -> int | None:
    """KAITO v0.12's formula (pkg/workspace/estimator/nodesestimator); None where it ends with an error."""
    size = (figures.weights_bytes or 0) * 1.02
    available = gpu_gib * GIB * 0.84
    fixed = 2.3 * GIB + context * _kaito_bytes_per_token(figures) / gpus
    if available <= fixed:
        return None
    return math.ceil((int(size / ((available - fixed) / 1.05)) + 1) / gpus)


def _kaito_bytes_per_token(figures: Figures) -> int:
    """Every layer at full attention in 16 bit."""
    layers, heads = figures.layers or 0, figures.heads or 1
    if figures.kv_lora_rank:
        return (figures.kv_lora_rank + (figures.qk_rope_head_dim or 0)) * layers * 2
    head_dim = figures.head_dim or (figures.hidden_size or 0) // heads
    return 2 * (figures.kv_heads or heads) * head_dim * layers * 2


def catalogue() -> list[Model]:
    """Every model of the catalogue, in its order."""
    text = resources.files("kaito.catalog").joinpath("data/models.csv").read_text()
    found = [find_model(row["huggingface"]) for row in csv.DictReader(text.splitlines())]
    return [model for model in found if model is not None]


def render() -> str:
    """The whole file."""
    types = [(type_, gib) for name, gib in TYPES if (type_ := find_instance_type(name)) is not None]
    return "\n".join([INTRODUCTION, *_section("short", types), *_section("full", types), ""])


def _section(which: str, types: list[tuple[InstanceType, int]]) -> list[str]:
    title = f"## At {DEFAULT_CONTEXT} tokens" if which == "short" else "## At the model's full context"
    head = ["model", "tokens", *(f"{t.name} ({t.gpu_count} x {t.gpu_memory_mib // 1024} GiB)" for t, _ in types)]
    lines = ["", title, "", _row(head), _row(["---"] * len(head))]
    for model in catalogue():
        figures = model.figures
        assert figures is not None
        limit = figures.context_length or DEFAULT_CONTEXT
        tokens = min(DEFAULT_CONTEXT, limit) if which == "short" else limit
        cells = [cell(model, figures, type_, gib, tokens) for type_, gib in types]
        lines.append(_row([model.huggingface, str(tokens), *cells]))
    return lines


def cell(model: Model, figures: Figures, type_: InstanceType, kaito_gib: int, tokens: int) -> str:
    """Nodes and parallelism, and KAITO's node count where it is another one."""
    estimate = estimate_serving(model, type_, context=tokens)
    theirs = kaito_nodes(figures, type_.gpu_count, kaito_gib, tokens)
    ours = estimate.nodes if estimate.fits else None
    text = f"{estimate.nodes}: {layout(estimate)}" if estimate.fits else "no"
    return (
        text if ours == theirs else f"{text} (KAITO {theirs or 'no'}{reason(model, figures, estimate, theirs, tokens)})"
    )


def layout(estimate: Estimate) -> str:
    pairs = (("TP", estimate.tensor_parallel), ("PP", estimate.pipeline_parallel), ("DP", estimate.data_parallel))
    return " ".join(f"{name}{size}" for name, size in pairs if size > 1) or "1 GPU"


def reason(model: Model, figures: Figures, estimate: Estimate, theirs: int | None, tokens: int) -> str:
    """Letters of the legend: what of the two formulas is apart for this cell."""
    if not estimate.fits and theirs:
        return " q" if model.quantization else " v" if estimate.engine == "transformers" else " m"
    letters = ""
    fewer = estimate.fits and (theirs is None or estimate.nodes < theirs)
    if fewer and (figures.sliding_layers or figures.linear_layers or figures.cache) and tokens > DEFAULT_CONTEXT:
        letters += "w"
    if fewer and estimate.pipeline_parallel > 1 and tokens > DEFAULT_CONTEXT:
        letters += "p"
    if not fewer and figures.kv_lora_rank and estimate.tensor_parallel > 1 and tokens > DEFAULT_CONTEXT:
        letters += "c"
    if not fewer and figures.heads and estimate.tensor_parallel < estimate.gpus_per_node and theirs:
        letters += "h"
    return " " + (letters or ("o" if fewer else "m"))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


INTRODUCTION = """# Models by instance types

Made by `python benchmarks/estimate.py --write`; a test compares it with what the code says. A cell is the number of
nodes and how the model is spread over their GPUs (TP tensor, PP pipeline, DP copies); `no` means that no number up to
64 does. `(KAITO n)` is the node count of KAITO v0.12's formula where it is another, and the letter says why:

| letter | what is apart |
|---|---|
| w | KAITO charges layers with a window, a fixed state or compressed entries as if they kept the whole context |
| p | KAITO does not spread the KV cache over pipeline stages, so long contexts take more nodes or end in an error |
| o | KAITO adds 5 % of the weights and rounds one GPU up even when the division is exact |
| c | KAITO divides a compressed (MLA) cache among the GPUs of a node; each holds all of it |
| h | the attention heads or the KV heads do not divide by the GPUs, so the model is cut by layers, and the fullest \
stage counts |
| v | vllm does not run on these GPUs, and the built-in engine uses one of them and no more nodes |
| q | the weights' number format does not run on these GPUs |
| m | the GPU's memory is what programs can use rather than the number on the box, activations and logits are \
counted by the model's shape instead of 2.3 GiB for all, and KV is not cut beyond the number of KV heads |

A letter names the likely chief cause; several may work together. KAITO's formula is fed the same weights as ours here;
its own catalogue also counts those of gpt-oss twice (121.54Gi for gpt-oss-120b, which is 60.77 GiB), since it adds up
every safetensors file of the repository.

Weights, heads and contexts are those of the models' configs."""


def _print_speed() -> None:
    """Processor time, which a busy machine disturbs least; commands beside a bare Python, interleaved."""
    model, type_ = find_model("llama-3.3-70b-instruct"), find_instance_type("Standard_ND96amsr_A100_v4")
    assert model is not None
    assert type_ is not None
    started = time.process_time()
    for _ in range(100):
        estimate_serving(model, type_, context=131072)
    print(f"one estimate: {(time.process_time() - started) * 10:.2f} ms")
    plan = ["-m", "kaito.cli.main", "plan", "-f", str(EXAMPLE)]
    commands = {
        "python -c pass": ["-c", "pass"],
        "kaito --help": ["-m", "kaito.cli.main", "--help"],
        "kaito plan": plan,
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(7):
        for name, words in commands.items():
            taken[name].append(_processor_seconds(words))
    print("| command | processor seconds, least | median |\n|---|---|---|")
    for name, seconds in taken.items():
        print(f"| `{name}` | {min(seconds):.2f} | {statistics.median(seconds):.2f} |")


def _processor_seconds(words: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    if "--write" in sys.argv:
        TABLE.write_text(render())
    else:
        print(render())
        _print_speed()
