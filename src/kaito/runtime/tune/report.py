"""What tuning proves: the base model and the tuned one on the same rows, and how the run was made."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from kaito import __version__
from kaito.runtime.data.doctor import percentiles
from kaito.runtime.limits import usable_cores
from kaito.runtime.tune.device import Device
from kaito.runtime.tune.energy import EnergyMeter
from kaito.runtime.tune.quality import measure_quality, questions_of
from kaito.runtime.tune.request import TuneRequest
from kaito.runtime.tune.tokens import Tokenized, Tokens, batches_of

SCORED_ROWS = 200  # rows of the training data that stand in where nothing is held out
SCORED_TOKENS = 4096  # tokens in one forward pass
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate")


MODEL_MARK = ".kaito-model.json"  # the model step leaves the source there


@dataclass(frozen=True)
class Run:
    """A finished training, all that the report needs of it."""

    request: TuneRequest
    device: Device
    trainer: Any
    tokenizer: Any
    rows: Tokenized
    held: Tokenized
    losses: Sequence[tuple[int, float]]
    eval_losses: Sequence[tuple[int, float]]
    energy: EnergyMeter


def make_report(run: Run) -> dict[str, Any]:
    """Everything but the time it took. The base and the tuned model are scored here."""
    request, trainer, rows = run.request, run.trainer, run.rows
    joules = run.energy.joules()  # of the training; the scoring is ours
    proof = _proof(run)
    return {
        "identity": request.identity,
        "preset": request.preset,
        "method": request.method,
        "model": _model_source(request.model),
        **proof,
        "trainRows": len(rows.rows),
        "trainTokens": int(trainer._total_train_tokens),
        "lengthInTokens": percentiles([len(row.input_ids) for row in rows.rows]),
        "rejectedRows": len(rows.rejections) + len(run.held.rejections),
        "truncatedRows": rows.truncated_rows,
        "truncatedTokens": rows.truncated_tokens,
        "steps": trainer.state.global_step,
        "epochs": float(trainer.state.epoch or 0),
        "seed": int(trainer.args.seed),
        "batch": trainer.args.per_device_train_batch_size,
        "accumulate": trainer.args.gradient_accumulation_steps,
        "processes": trainer.args.world_size,
        "gradientCheckpointing": bool(trainer.args.gradient_checkpointing),
        "dataDigest": request.data_digest,
        "device": {**run.device.describe(), **_machine()},
        "peakMemoryBytes": run.device.peak_memory(),
        "energyJoules": joules,
        "energyOf": run.energy.what if joules is not None else "",
        "versions": versions(),
        "config": {
            "ModelConfig": {"torch_dtype": run.device.dtype_name},
            "LoraConfig": _lora(trainer.model, request.config.lora),
            "QuantizationConfig": dict(request.config.quantization),
            "TrainingArguments": dict(request.config.training),
        },
        "curve": {"train": list(run.losses), "eval": _held_out_curve(run, proof)},
        "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _proof(run: Run) -> dict[str, Any]:
    """The base model and the tuned one on the same rows: held-out ones where there are any."""
    model = run.trainer.model
    scored = run.held.rows or run.rows.rows[:SCORED_ROWS]
    tuned = score(model, scored)
    with model.disable_adapter():
        base = score(model, scored)
    quality = measure_quality(model, run.tokenizer, questions_of(scored, run.trainer.args.max_length))
    return {
        "evalLoss": round(tuned, 6),
        "baseEvalLoss": round(base, 6),
        "perplexity": perplexity(tuned),
        "basePerplexity": perplexity(base),
        "exactMatch": quality.exact_match,
        "baseExactMatch": quality.base_exact_match,
        "matchedRows": quality.matched_rows,
        "samples": quality.samples,
        "scoredOn": "eval" if run.held.rows else "train",
        "scoredRows": len(scored),
    }


def _held_out_curve(run: Run, proof: Mapping[str, Any]) -> list[tuple[int, float]]:
    """As it was evaluated while training; else from the base model to the tuned one."""
    if run.eval_losses or not run.held.rows:
        return list(run.eval_losses)
    return [(0, proof["baseEvalLoss"]), (run.trainer.state.global_step, proof["evalLoss"])]


def _model_source(folder: Path) -> dict[str, Any]:
    """Where the weights came from, revision and all, as the model step left it."""
    try:
        source = json.loads((folder / MODEL_MARK).read_bytes())
    except (OSError, ValueError):
        return {}
    found = {key: value for key, value in source.items() if value} if isinstance(source, dict) else {}
    commit = _hub_commit(folder)
    return {**found, "commit": commit} if commit else found


def _hub_commit(folder: Path) -> str:
    """The commit that a branch such as main stood for, as the hub's client notes it beside what it downloads."""
    try:
        note = (folder / ".cache/huggingface/download/config.json.metadata").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return note.partition("\n")[0].strip()


def _machine() -> dict[str, Any]:
    return {
        "cores": usable_cores(),
        "memoryBytes": psutil.virtual_memory().total,
        "system": platform.platform(),
    }


def _lora(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter's settings as they were used, the defaults too."""
    used = model.peft_config[model.active_adapter]
    names = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")
    return {**given, **{name: getattr(used, name) for name in names}, "target_modules": sorted(used.target_modules)}


def score(model: Any, rows: Sequence[Tokens]) -> float:
    """Mean loss per learnt token (natural logarithm) of a causal model on rows, each row alone."""
    device = next(model.parameters()).device
    total, learnt = 0.0, 0
    was_training = model.training
    model.eval()
    ordered = sorted(rows, key=lambda row: len(row.input_ids))  # equal lengths together: little padding
    with torch.inference_mode():
        for group in batches_of(ordered, SCORED_TOKENS):
            ids, labels, mask = _padded(group, device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), reduction="sum"
            )
            total += loss.item()
            learnt += int((labels[:, 1:] != -100).sum())
    model.train(was_training)
    return total / max(1, learnt)


def _padded(group: Sequence[Tokens], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(rows, longest) tensors: input_ids padded with 0, labels with -100, and the attention mask."""
    longest = max(len(row.input_ids) for row in group)
    ids = torch.zeros(len(group), longest, dtype=torch.long)
    labels = torch.full((len(group), longest), -100, dtype=torch.long)
    mask = torch.zeros(len(group), longest, dtype=torch.long)
    for index, row in enumerate(group):
        length = len(row.input_ids)
        ids[index, :length] = torch.tensor(row.input_ids)
        labels[index, :length] = torch.tensor(row.labels)
        mask[index, :length] = 1
    return ids.to(device), labels.to(device), mask.to(device)


def perplexity(loss: float) -> float | None:
    return round(math.exp(loss), 4) if loss < 700 else None


def versions() -> dict[str, str]:
    found = {"kaito": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_report(output: Path, report: Mapping[str, Any]) -> None:
    """report.json, report.md and loss.svg; report.json last, because its presence says that all is there."""
    (output / "loss.svg").write_text(draw_curve(report["curve"]["train"], report["curve"]["eval"]), encoding="utf-8")
    (output / "report.md").write_text(as_markdown(report), encoding="utf-8")
    beside = output / "report.json.new"
    beside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(output / "report.json")


def as_markdown(report: Mapping[str, Any]) -> str:
    where = "held-out rows" if report["scoredOn"] == "eval" else "rows of the training data (none are held out)"
    match = ""
    if report["exactMatch"] is not None:
        shares = f"{report['baseExactMatch']:.1%} | {report['exactMatch']:.1%}"
        match = f"| exact match of {report['matchedRows']} short answers | {shares} |\n"
    energy = f", {report['energyJoules']:.0f} J ({report['energyOf']})" if report["energyJoules"] is not None else ""
    source = " ".join(f"{key} `{value}`" for key, value in report["model"].items())
    return f"""# Tuning report: {report["preset"] or "model"}

| | base | tuned |
|---|---|---|
| loss | {report["baseEvalLoss"]:.4f} | {report["evalLoss"]:.4f} |
| perplexity | {report["basePerplexity"]} | {report["perplexity"]} |
{match}
Scored on {report["scoredRows"]} {where}. Method {report["method"]}, {report["steps"]} steps,
{report["epochs"]:g} epochs, {report["trainTokens"]} tokens
in {report["seconds"]:.0f} s on {report["device"]["name"]}, seed {report["seed"]}{energy}.

Data: {report["trainRows"]} rows, digest `{report["dataDigest"]}`, {report["rejectedRows"]} rejected,
{report["truncatedRows"]} cut. Model: {source or "its source is not known"}.

![loss](loss.svg)
{"".join(_sample(number, one) for number, one in enumerate(report["samples"], 1))}
## How it was made

```json
{json.dumps({"config": report["config"], "versions": report["versions"], "device": report["device"]}, indent=1)}
```
"""


def _sample(number: int, sample: Mapping[str, str]) -> str:
    parts = "".join(f"\n{name}:\n\n{_quoted(sample[name])}" for name in ("prompt", "expected", "base", "tuned"))
    return f"\n## Answer {number}\n{parts}"


def _quoted(text: str) -> str:
    """Indented, so that nothing in it is read as Markdown."""
    return "".join(f"    {line}\n" for line in (text.strip() or "(nothing)").splitlines())


def draw_curve(train: Sequence[Sequence[float]], held: Sequence[Sequence[float]]) -> str:
    """The loss over steps as a small SVG; `train` and `held` are (step, loss) pairs."""
    points = [*train, *held]
    width, height, margin = 640, 320, 40
    top = max((loss for _, loss in points), default=1.0) or 1.0
    last = max((step for step, _ in points), default=1) or 1

    def line(series: Sequence[Sequence[float]], color: str) -> str:
        if not series:
            return ""
        across, up = (width - 2 * margin) / last, (height - 2 * margin) / top
        places = " ".join(f"{margin + across * step:.1f},{height - margin - up * loss:.1f}" for step, loss in series)
        return f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{places}"/>'

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
        f'<path d="M{margin} {margin}V{height - margin}H{width - margin}" fill="none" stroke="#888"/>'
        f'<text x="{margin}" y="{margin - 8}">loss {top:.2f}</text>'
        f'<text x="{width - margin}" y="{height - margin + 16}" text-anchor="end">step {last:g}</text>'
        f"{line(train, '#1f77b4')}{line(held, '#d62728')}</svg>\n"
    )
