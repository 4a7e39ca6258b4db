"""Indexed Jobs (`completionMode: Indexed`): every completion has a number, and is done once a pod of it succeeded.

A pod learns its index from an annotation, a label, its hostname and JOB_COMPLETION_INDEX. What is done is written in
`status.completedIndexes` as Kubernetes writes it: `0-2,5`. So it outlives the pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from kaito.api.core import Generic

INDEX = "batch.kubernetes.io/job-completion-index"
ENVIRONMENT = "JOB_COMPLETION_INDEX"


def is_indexed(job: Generic) -> bool:
    return job.spec.get("completionMode") == "Indexed"


def index_of(pod: Generic) -> int | None:
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdigit() else None


def completed_indexes(job: Generic, succeeded: Iterable[Generic]) -> frozenset[int]:
    """Those that the status tells of, and those of the pods that succeeded."""
    known = parse_indexes(str(job.status.get("completedIndexes") or ""))
    found = known | {index for index in map(index_of, succeeded) if index is not None}
    return frozenset(index for index in found if index < _completions(job))


def next_indexes(job: Generic, active: Iterable[Generic], done: frozenset[int], count: int) -> list[int]:
    """The first `count` indexes that are neither done nor have a pod."""
    taken = done | {index_of(pod) for pod in active}
    return list(islice((index for index in range(_completions(job)) if index not in taken), count))


def duplicates(active: Sequence[Generic]) -> list[Generic]:
    """Active pods whose index an older active pod has already, and pods without one. `active` is sorted by age."""
    seen: set[int] = set()
    surplus = []
    for pod in active:
        index = index_of(pod)
        if index is None or index in seen:
            surplus.append(pod)
        else:
            seen.add(index)
    return surplus


def indexed_body(body: dict[str, Any], job_name: str, index: int) -> dict[str, Any]:
    """The pod `body` as that of one index."""
    metadata, spec = body["metadata"], body["spec"]
    marks = {INDEX: str(index)}
    return {
        **body,
        "metadata": {
            **metadata,
            "generateName": f"{job_name}-{index}-",
            "labels": {**metadata.get("labels", {}), **marks},
            "annotations": {**metadata.get("annotations", {}), **marks},
        },
        "spec": {
            **spec,
            "hostname": f"{job_name}-{index}",
            **{key: [_with_index(c) for c in spec[key]] for key in ("initContainers", "containers") if spec.get(key)},
        },
    }


def _with_index(container: dict[str, Any]) -> dict[str, Any]:
    """A variable of this name that the user set wins."""
    env = container.get("env") or []
    if any(variable.get("name") == ENVIRONMENT for variable in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    return {**container, "env": [*env, {"name": ENVIRONMENT, "valueFrom": source}]}


def parse_indexes(text: str) -> frozenset[int]:
    """`0-2,5` as numbers. A part that is not so written, as a person may have edited it, is left out."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last.isdigit() or not last):
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def format_indexes(indexes: Iterable[int]) -> str:
    """Runs of three and more as `first-last`; two neighbours stay apart, as in Kubernetes."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    words = []
    for run in runs:
        words += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(index) for index in run]
    return ",".join(words)


def _completions(job: Generic) -> int:
    return int(job.spec.get("completions") or 0)
