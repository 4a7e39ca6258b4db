"""Runs of the tune step as the pod runs it: a process with an environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from kaito.runtime.data.dataset import EVAL, TRAIN, DatasetWriter, Placed, content_digest, read_dataset
from kaito.runtime.data.shapes import parse_example
from kaito.runtime.step import Step


def write_data(folder: Path, train: Iterable[dict[str, Any]], held: Iterable[dict[str, Any]] = ()) -> Path:
    """A canonical data set, as the data step leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ((TRAIN, list(train)), (EVAL, list(held))):
        if rows:
            with DatasetWriter(folder / name) as writer:
                for line, row in enumerate(rows, 1):
                    writer.add(Placed(parse_example(row), "rows.jsonl", line))
    (folder / "report.json").write_text(json.dumps({"digest": content_digest(read_dataset(folder / TRAIN))}))
    return folder


def write_config(path: Path, **sections: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"training_config": sections}))
    return path


def environment(root: Path, model: Path, data: Path, config: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "KAITO_HOST": "127.0.0.1",
        "KAITO_PORT": "0",
        "KAITO_TERMINATION_LOG": str(root / "last-words"),
        "KAITO_MODEL_DIR": str(model),
        "KAITO_DATA_DIR": str(data),
        "KAITO_CONFIG": str(config),
        "KAITO_OUTPUT_DIR": str(root / "out"),
        "KAITO_PRESET": "tiny-phi-3",
        **more,
    }


def start(environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kaito.runtime.main", "tune"],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def events(stdout: str) -> list[dict[str, Any]]:
    """Every line of the log is one JSON object."""
    return [json.loads(line) for line in stdout.splitlines()]


def finish(environ: dict[str, str], timeout: float = 300) -> list[dict[str, Any]]:
    """Run to the end; the events of its log. Fails the test on any exit code but 0."""
    process = start(environ)
    stdout, stderr = process.communicate(timeout=timeout)
    assert process.returncode == 0, stderr[-3000:]
    return events(stdout)


def adapter(root: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(root / "out" / "adapter" / "adapter_model.safetensors"))


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def stop_after(made: Step, at: int) -> None:
    """As SIGTERM would: the event is set while step `at` ends."""
    update = made.progress.update

    def watching(**fields: Any) -> None:
        update(**fields)
        if (fields.get("trainStep") or 0) >= at:
            made.stop.set()

    made.progress.update = watching  # type: ignore[method-assign]
