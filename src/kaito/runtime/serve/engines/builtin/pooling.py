"""Vectors of texts from a decoder that was made for it: which of its last states count, and whether they are normed.

What the makers meant is in the files of sentence-transformers beside the weights: `modules.json`, and the `config.json`
of its Pooling module.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MODES = {"pooling_mode_lasttoken": "last", "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}


@dataclass(frozen=True)
class Pooling:
    """`mode` is last, mean or first."""

    mode: str
    norms: bool

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """[tokens, size] of one text -> [size], float32."""
        states = states.float()
        vector = {"last": states[-1], "first": states[0]}.get(self.mode, states.mean(0))
        return torch.nn.functional.normalize(vector, dim=-1) if self.norms else vector


def read_pooling(folder: Path) -> Pooling | None:
    """None where the model is not one for embeddings."""
    modules = _read(folder / "modules.json")
    if not isinstance(modules, list):
        return None
    kinds = {str(one.get("type", "")).rpartition(".")[2]: one for one in modules if isinstance(one, dict)}
    if "Pooling" not in kinds:
        return None
    config = _read(folder / str(kinds["Pooling"].get("path", "1_Pooling")) / "config.json")
    given = config if isinstance(config, dict) else {}
    mode = next((mode for key, mode in MODES.items() if given.get(key)), "mean")
    return Pooling(mode, "Normalize" in kinds)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
