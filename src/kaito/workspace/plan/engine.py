"""The resolved inference config: what sizing, the model and annotations say, overlaid by what the user gave."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml

from kaito.api.workspace import ANNOTATION_PERFORMANCE_MODE, Workspace
from kaito.catalog.engine import engine_flags
from kaito.workspace.plan.sizing import Sizing

UTILIZATION = 0.84
"""The share of a GPU's memory that the estimate plans with, so the engine is held to it."""


def resolve_engine_config(text: str, workspace: Workspace, sizing: Sizing) -> str:
    """`text` is a checked `inference_config.yaml`; the answer is one too, with the engine's parallelism in it."""
    mode = workspace.metadata.annotations.get(ANNOTATION_PERFORMANCE_MODE, "balanced")
    return _resolve(text, tuple(_flags(sizing).items()), mode)


def _flags(sizing: Sizing) -> dict[str, Any]:
    estimate = sizing.estimate
    if estimate is None or not sizing.gpus:
        return {}
    flags: dict[str, Any] = {"gpu-memory-utilization": UTILIZATION}
    if sizing.model is not None:
        flags |= engine_flags(sizing.model)
    if estimate.tensor_parallel > 1:
        flags["tensor-parallel-size"] = estimate.tensor_parallel
    if estimate.data_parallel > 1:
        flags["data-parallel-size"] = estimate.data_parallel
    if estimate.pipeline_parallel > 1:
        flags["pipeline-parallel-size"] = estimate.pipeline_parallel
    if sizing.nodes > 1:
        flags["distributed-executor-backend"] = "ray"
    return flags


@lru_cache(maxsize=1024)
def _resolve(text: str, flags: tuple[tuple[str, Any], ...], mode: str) -> str:
    given = yaml.safe_load(text) or {}
    engine = dict(flags)
    if mode != "balanced":
        engine["performance-mode"] = mode
    resolved = {**given, "vllm": {**engine, **(given.get("vllm") or {})}}
    made: str = yaml.safe_dump(resolved, sort_keys=False)
    return made
