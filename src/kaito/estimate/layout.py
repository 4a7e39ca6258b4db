"""How a model is spread over GPUs: tensor parallelism within a node, pipeline stages, copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kaito.catalog.instances import InstanceType
from kaito.catalog.models import Figures

MAX_NODES = 64


@dataclass(frozen=True)
class Layout:
    """`tensor` within a node, `pipeline` over GPUs and nodes, `data` copies of it."""

    nodes: int
    tensor: int
    pipeline: int
    data: int


@dataclass(frozen=True)
class Parallelism:
    """What the user's config fixes; 0: left to the plan."""

    tensor: int = 0
    pipeline: int = 0
    data: int = 0

    @property
    def is_given(self) -> bool:
        return bool(self.tensor or self.pipeline or self.data)


def can_split(figures: Figures, tensor: int) -> bool:
    """Whether the attention can be cut among `tensor` GPUs.

    The heads have to divide by it; the KV heads too, or it by them, for then each is held more than once (vLLM,
    `ModelConfig.verify_with_parallel_config` and its attention layers). A compressed (MLA) cache is whole everywhere.
    """
    heads = figures.heads or tensor
    if heads % tensor:
        return False
    kv_heads = figures.kv_heads or heads
    return bool(figures.kv_lora_rank) or kv_heads % tensor == 0 or tensor % kv_heads == 0


def tensor_parallel(figures: Figures, gpus: int) -> int:
    """The most GPUs of a node among which the model can be cut."""
    return max(size for size in range(1, gpus + 1) if gpus % size == 0 and can_split(figures, size))


def layouts(figures: Figures, instance: InstanceType, usable: int, given: Parallelism) -> Iterator[Layout]:
    """Candidates, the preferred first: copies on single GPUs of one node, then a node, then more nodes."""
    if given.is_given:
        yield from _given(figures, instance.gpu_count, given)
        return
    gpus = instance.gpu_count
    if gpus > 1 and (figures.weights_bytes or 0) * 2 <= usable:
        yield Layout(1, 1, 1, gpus)
    tensor = tensor_parallel(figures, gpus)
    for nodes in range(1, MAX_NODES + 1):
        stages = nodes * (gpus // tensor)
        if stages <= max(1, figures.layers or 1):
            yield Layout(nodes, tensor, stages, 1)


def _given(figures: Figures, gpus: int, given: Parallelism) -> Iterator[Layout]:
    """What the user fixed is kept; pipeline stages are added where they left them open."""
    tensor, data = given.tensor or 1, given.data or 1
    stages = [given.pipeline] if given.pipeline else range(1, max(1, figures.layers or 1) + 1)
    for pipeline in stages:
        nodes = -(-tensor * pipeline * data // gpus)
        if nodes <= MAX_NODES and can_split(figures, tensor):
            yield Layout(nodes, tensor, pipeline, data)


def misfit(figures: Figures, given: Parallelism) -> str:
    """Why the parallelism that the user fixed cannot be; empty where it can."""
    if given.tensor and not can_split(figures, given.tensor):
        kv_heads = figures.kv_heads or figures.heads
        return f"{figures.heads} heads and {kv_heads} KV heads do not divide among {given.tensor} GPUs"
    if given.pipeline > (figures.layers or given.pipeline):
        return f"{figures.layers} layers do not make {given.pipeline} pipeline stages"
    return ""
