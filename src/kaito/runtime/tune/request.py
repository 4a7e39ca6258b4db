"""What a tuning run is asked to do, read and checked before anything heavy is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.runtime.data.dataset import EVAL, TRAIN
from kaito.runtime.data.fetch import fingerprint
from kaito.runtime.errors import InputError, StepError
from kaito.runtime.step import Step
from kaito.runtime.tune.config import TuningConfig, check_method, read_config

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class TuneRequest:
    """`identity` names the run: the same request finds its checkpoints and its result again, another does not."""

    preset: str
    method: str
    config: TuningConfig
    model: Path
    data: Path
    output: Path
    data_digest: str
    identity: str

    @property
    def adapter(self) -> Path:
        return self.output / "adapter"

    @property
    def checkpoints(self) -> Path:
        return self.output / "checkpoints"


def read_request(step: Step) -> TuneRequest:
    """Raises InputError for a wrong config or method, StepError for data or a model that is not there."""
    config_file = step.optional_path("KAITO_CONFIG")
    config = read_config(config_file)
    method = check_method(config, step.environ.get("KAITO_METHOD") or "lora")
    for warning in config.warnings:
        step.say("config warning", warning=warning)
    data, model, output = step.path("KAITO_DATA_DIR"), step.path("KAITO_MODEL_DIR"), step.path("KAITO_OUTPUT_DIR")
    if not (data / TRAIN).is_file():
        raise StepError("DataMissing", f"{data} has no {TRAIN}", "the data step has to finish first")
    if not (model / "config.json").is_file():
        raise StepError("ModelMissing", f"{model} has no config.json", "the model step has to finish first")
    output.mkdir(parents=True, exist_ok=True)
    digest = _data_digest(data)
    preset = step.environ.get("KAITO_PRESET", "")
    text = config_file.read_text() if config_file and config_file.exists() else ""
    # The model is named by its architecture file: weights of many gigabytes are not hashed at every start.
    identity = fingerprint(preset, method, text, digest, (model / "config.json").read_text(), (data / EVAL).exists())
    return TuneRequest(preset, method, config, model, data, output, digest, identity)


def finished(request: TuneRequest) -> dict[str, Any] | None:
    """The report of this very run when all that it leaves is there."""
    try:
        report = json.loads((request.output / "report.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(report, dict) or report.get("identity") != request.identity:
        return None
    return report if all((request.adapter / name).is_file() for name in ADAPTER_FILES) else None


def _data_digest(data: Path) -> str:
    try:
        report = json.loads((data / "report.json").read_bytes())
        return str(report["digest"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise InputError(
            "DataMissing", f"{data} has no report.json with a digest", "make the data set with kaito-runtime data"
        ) from None
