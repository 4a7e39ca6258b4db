"""What tuning proves: the base model and the tuned one on the same rows, and how the run was made."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kaito.runtime.tune.tokens import Tokens, batches_of

SCORED_ROWS = 200  # rows of the training data that stand in where nothing is held out
SCORED_TOKENS = 4096  # tokens in one forward pass
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate")


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
    found = {}
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
    return f"""# Tuning report: {report["preset"] or "model"}

| | base | tuned |
|---|---|---|
| loss | {report["baseEvalLoss"]:.4f} | {report["evalLoss"]:.4f} |
| perplexity | {report["basePerplexity"]} | {report["perplexity"]} |

Scored on {report["scoredRows"]} {where}. Method {report["method"]}, {report["steps"]} steps,
{report["epochs"]:g} epochs, {report["trainTokens"]} tokens
in {report["seconds"]:.0f} s on {report["device"]["name"]}, seed {report["seed"]}.

Data: {report["trainRows"]} rows, digest `{report["dataDigest"]}`.

![loss](loss.svg)
"""


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
