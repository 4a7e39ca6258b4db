"""`kaito-runtime data`: bring the data, check it, and leave the canonical data set in KAITO_DATA_DIR."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kaito.runtime.data.address import parse_allowed
from kaito.runtime.data.dataset import EVAL, TRAIN, DatasetWriter, Placed, content_digest, read_dataset, write_split
from kaito.runtime.data.doctor import Findings, examine_file, why_unusable
from kaito.runtime.data.fetch import Fetcher, fingerprint
from kaito.runtime.data.rows import Example
from kaito.runtime.errors import InputError
from kaito.runtime.step import Step, run_step
from kaito.runtime.tune.config import DatasetConfig, read_config

REPORT = "report.json"
# Without a word in the config: sets of this many rows or more hold some out, so that the report can prove something.
HOLD_OUT_FROM = 200
HELD_OUT_PART = 0.02
AUTHORIZATION_HINT = 'the Secret needs the key authorization, such as "Bearer <token>"'


def run() -> int:
    return run_step("data", prepare)


def prepare(step: Step) -> Mapping[str, Any]:
    """The step: fetch, read, convert, split, report. Done before with the same input: nothing is done again."""
    folder = step.path("KAITO_DATA_DIR")
    folder.mkdir(parents=True, exist_ok=True)
    config = read_config(step.optional_path("KAITO_CONFIG")).dataset
    identity = _identity(step, config)
    done = _finished(folder, identity)
    if done is not None:
        step.say("data set is already prepared", rows=done["rows"])
        return _words(done)
    files = _bring(step, folder)
    findings = _convert(step, files, folder, config)
    split = write_split(folder / "all.arrow", folder, _train_part(config, findings.usable), config.shuffle_seed)
    digest = content_digest(read_dataset(folder / TRAIN))
    parts = {"train": split.train, "eval": split.held, "leakedIntoEval": split.leaked}
    report = {**findings.as_dict(), **parts, "digest": digest, "input": identity}
    _write_report(folder, report)
    shutil.rmtree(folder / "raw", ignore_errors=True)
    (folder / "all.arrow").unlink()
    step.say("data set is ready", train=split.train, eval=split.held, rejected=findings.rejected)
    return _words(report)


def _identity(step: Step, config: DatasetConfig) -> str:
    names = ("KAITO_DATA_URLS", "KAITO_DATA_IMAGE", "KAITO_DATA_SOURCE_DIR")
    return fingerprint({name: step.environ.get(name, "") for name in names}, msgspec.to_builtins(config))


def _finished(folder: Path, identity: str) -> dict[str, Any] | None:
    try:
        report = json.loads((folder / REPORT).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return report if report.get("input") == identity and (folder / TRAIN).exists() else None


def _bring(step: Step, folder: Path) -> list[tuple[Path, str]]:
    """The raw files, each with the name that reports call it."""
    if step.environ.get("KAITO_DATA_URLS"):
        return _fetch_urls(step, folder / "raw")
    if step.environ.get("KAITO_DATA_IMAGE"):
        from kaito.runtime.adapter import pull_data

        return _list_files(pull_data(step, folder / "raw") / "data", "the image's /data")
    if step.environ.get("KAITO_DATA_SOURCE_DIR"):
        return _list_files(step.path("KAITO_DATA_SOURCE_DIR"), "the volume")
    raise InputError(
        "EnvironmentMissing",
        "none of KAITO_DATA_URLS, KAITO_DATA_IMAGE and KAITO_DATA_SOURCE_DIR is set",
        "give tuning.input urls, an image or a volume",
    )


def _fetch_urls(step: Step, folder: Path) -> list[tuple[Path, str]]:
    try:
        urls = msgspec.json.decode(step.require("KAITO_DATA_URLS"), type=list[str])
    except msgspec.DecodeError as error:
        raise InputError("EnvironmentInvalid", f"KAITO_DATA_URLS is not a JSON list of texts: {error}") from error
    if not urls:
        raise InputError("DataNotFound", "tuning.input.urls is empty", "name at least one URL")
    counts = {"done": 0, "total": 0}

    def moved(count: int, total: int | None) -> None:
        counts["done"] += count
        counts["total"] += total or 0
        step.progress.update(bytesDone=counts["done"], bytesTotal=counts["total"] or None)

    step.progress.running(f"fetching {len(urls)} file(s)")
    step.say("fetching data", files=len(urls))
    allowed = parse_allowed(step.environ.get("KAITO_DATA_ALLOW", ""))
    fetcher = Fetcher(folder, allowed, moved=moved, authorization=_authorization(step))
    paths = asyncio.run(fetcher.fetch(urls))
    return [(path, path.name.partition("-")[2]) for path in paths]


def _authorization(step: Step) -> str:
    path = step.optional_path("KAITO_DATA_AUTHORIZATION")
    if path is None:
        return ""
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "DataSecretInvalid", f"the Authorization for the data cannot be read from {path.name}", AUTHORIZATION_HINT
        ) from error
    if not value or not value.isprintable() or not value.isascii():
        raise InputError(
            "DataSecretInvalid", "the Authorization for the data is not one line of text", AUTHORIZATION_HINT
        )
    return value


def _list_files(folder: Path, what: str) -> list[tuple[Path, str]]:
    if not folder.is_dir():
        raise InputError("DataNotFound", f"{what} has no folder {folder.name}", "put the data files there")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        and path.name != "lost+found"
    )  # fmt: skip
    if not files:
        raise InputError("DataNotFound", f"{what} holds no file", "put the data files there")
    return [(path, str(path.relative_to(folder))) for path in files]


def _convert(step: Step, files: list[tuple[Path, str]], folder: Path, config: DatasetConfig) -> Findings:
    findings = Findings()
    with DatasetWriter(folder / "all.arrow") as writer:

        def accepted(example: Example, file: str, line: int) -> None:
            writer.add(Placed(example, file, line))
            if writer.rows % 1000 == 0:
                step.progress.update(rows=writer.rows, rejectedRows=findings.rejected)

        for path, name in files:
            step.progress.running(f"reading {name}")
            examine_file(path, name, findings, config.columns(), accepted)
    step.progress.update(rows=findings.usable, rejectedRows=findings.rejected)
    for rejection in findings.rejections[:10]:
        step.say("row rejected", file=rejection.file, line=rejection.line, why=rejection.why)
    if not findings.usable:
        raise InputError("DataUnusable", *why_unusable(findings))
    return findings


def _train_part(config: DatasetConfig, rows: int) -> float:
    if config.train_test_split is not None:
        return config.train_test_split
    return 1 - HELD_OUT_PART if rows >= HOLD_OUT_FROM else 1.0


def _write_report(folder: Path, report: Mapping[str, Any]) -> None:
    beside = folder / f"{REPORT}.new"
    beside.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    beside.replace(folder / REPORT)


def _words(report: Mapping[str, Any]) -> dict[str, Any]:
    return {"train": report["train"], "eval": report["eval"], "rejected": report["rejected"]}


__all__ = ["EVAL", "TRAIN", "prepare", "run"]
