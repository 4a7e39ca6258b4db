"""`kaito-runtime publish`: push the tuned adapter as an OCI image, or seal the volume that is the output itself.

A registry that refuses or does not answer is waited for, loudly: training was the dear part, and the secret can be
mended while this container waits. The credentials are read anew for each try.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.oci.client import RegistryClient
from kaito.oci.digest import digest_file
from kaito.oci.errors import (
    BadCredentialsFile,
    NotFound,
    OciError,
    Refused,
    Unauthorized,
    Unreachable,
)
from kaito.oci.image import ImageMetadata, Pushed, attach, push_image, subject_of
from kaito.oci.reference import Reference
from kaito.oci.session import RetryPolicy
from kaito.runtime.adapter import CONFIG, WEIGHTS
from kaito.runtime.errors import RuntimeFailure, StepError
from kaito.runtime.registry import image_reference, open_session
from kaito.runtime.step import Step, run_step
from kaito.runtime.tune.remote import drop_checkpoint

REPORT_TYPE = "application/vnd.kaito.tuning.report.v1"
REPORT_FILES = {"report.json": "application/json", "report.md": "text/markdown", "loss.svg": "image/svg+xml"}
SEAL = "manifest.json"
# The loop here is the patient one, and it says what it waits for; a push by itself gives up soon.
QUICK = RetryPolicy(tries=3, first=0.2, most=5.0)


@dataclass(frozen=True)
class Patience:
    """Pauses double from `first` to `most` seconds; after `total` seconds of refusals the step fails. 0: never."""

    first: float = 2.0
    most: float = 60.0
    total: float = 0.0

    def pause(self, attempt: int, chance: float) -> float:
        return float(min(self.most, self.first * 2 ** min(attempt, 16)) * (1 - chance / 4))


def run() -> int:
    return run_step("publish", publish)


def publish(step: Step, chance: Callable[[], float] = random.random) -> Mapping[str, Any]:
    """The step; returns the termination message."""
    output = step.path("KAITO_OUTPUT_DIR")
    adapter = output / "adapter"
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            raise StepError("AdapterMissing", f"{adapter} has no {name}", "the tune step has to finish first")
    figures = _figures(output)
    if not step.environ.get("KAITO_OUTPUT_IMAGE"):
        digest = seal(output)
        step.say("results volume is sealed", folder=str(output), digest=digest)
        drop_checkpoint(step)
        return {"image": "", "digest": digest, **figures}
    reference = image_reference(step, "KAITO_OUTPUT_IMAGE")
    pushed = _push_patiently(step, reference, output, chance)
    step.say("adapter is pushed", image=str(reference), digest=pushed.digest)
    drop_checkpoint(step)
    return {"image": str(reference), "digest": pushed.digest, **figures}


def seal(output: Path) -> str:
    """Write `manifest.json`: name, size and digest of the adapter's files. Returns one digest over all of them."""
    files = [output / "adapter" / CONFIG, output / "adapter" / WEIGHTS]
    entries = {
        str(path.relative_to(output)): {"digest": digest_file(path), "size": path.stat().st_size} for path in files
    }
    beside = output / f"{SEAL}.new"
    beside.write_text(json.dumps({"files": entries}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    beside.replace(output / SEAL)
    return digest_file(output / SEAL)


def _push_patiently(step: Step, reference: Reference, output: Path, chance: Callable[[], float]) -> Pushed:
    patience = _patience(step)
    started = step.clock()
    attempt = 0
    while True:
        step.progress.running(f"pushing the adapter to {reference}")
        try:
            return asyncio.run(_push(step, reference, output))
        except OciError as error:
            failure = push_failure(error, step.environ.get("KAITO_PUSH_SECRET", ""))
        if patience.total and step.clock() - started >= patience.total:
            raise failure
        step.progress.waiting(failure)
        step.say("push is refused; waiting", **failure.as_dict())
        step.stop.wait(patience.pause(attempt, chance()))
        attempt += 1


async def _push(step: Step, reference: Reference, output: Path) -> Pushed:
    done = {"bytesDone": 0}

    def moved(count: int) -> None:
        done["bytesDone"] += count
        step.progress.update(**done)

    async with open_session(step, QUICK) as session:
        client = RegistryClient(session)
        files = {f"data/{name}": output / "adapter" / name for name in (CONFIG, WEIGHTS)}
        metadata = ImageMetadata(_annotations(step, output))
        pushed = await push_image(client, reference, files, metadata, moved=moved)
        report = {
            name: (kind, (output / name).read_bytes())
            for name, kind in REPORT_FILES.items()
            if (output / name).is_file()
        }
        if report:
            await _attach_report(step, client, reference, pushed, report)
    return pushed


async def _attach_report(
    step: Step, client: RegistryClient, reference: Reference, pushed: Pushed, report: dict[str, tuple[str, bytes]]
) -> None:
    """The report is a help, not the product: a registry that takes no artifacts does not fail the push."""
    try:
        digest = await attach(client, reference, subject_of(pushed), REPORT_TYPE, report)
    except (Refused, NotFound) as error:
        step.say("the registry takes no report beside the image", why=str(error))
    else:
        step.say("report is attached", digest=digest)


def push_failure(error: OciError, secret: str = "") -> RuntimeFailure:
    """What `/progress` says while the push waits."""
    match error:
        case Unauthorized():
            which = f"the Secret {secret}" if secret else "the secret that tuning.output.imagePushSecret names"
            return StepError("PushUnauthorized", str(error), f"mend {which}: the push is tried again, nothing is lost")
        case BadCredentialsFile():
            return StepError(
                "PushSecretInvalid", str(error), "make the secret anew with kubectl create secret docker-registry"
            )
        case Unreachable():
            return StepError(
                "RegistryUnreachable", str(error), "check the registry in tuning.output.image and the network"
            )
        case _:
            return StepError(
                "PushRefused", str(error), "check that the repository in tuning.output.image may be written"
            )


def _annotations(step: Step, output: Path) -> dict[str, str]:
    annotations = {"org.opencontainers.image.title": "LoRA adapter"}
    if step.environ.get("KAITO_PRESET"):
        annotations["sh.kaito.model.name"] = step.environ["KAITO_PRESET"]
    report = _report(output)
    for name, key in (("sh.kaito.data.digest", "dataDigest"), ("sh.kaito.tuning.method", "method")):
        if isinstance(report.get(key), str):
            annotations[name] = report[key]
    return annotations


FIGURES = ("evalLoss", "baseEvalLoss", "perplexity", "basePerplexity", "exactMatch", "baseExactMatch")


def _figures(output: Path) -> dict[str, float | str]:
    """What the training proved, for the termination message."""
    report = _report(output)
    found: dict[str, float | str] = {key: report[key] for key in FIGURES if isinstance(report.get(key), (int, float))}
    return {**found, "scoredOn": str(report["scoredOn"])} if report.get("scoredOn") else found


def _report(output: Path) -> dict[str, Any]:
    try:
        report = json.loads((output / "report.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _patience(step: Step) -> Patience:
    return Patience(
        step.number("KAITO_PUSH_RETRY_SECONDS", Patience.first),
        step.number("KAITO_PUSH_RETRY_MAX_SECONDS", Patience.most),
        step.number("KAITO_PUSH_PATIENCE_SECONDS", Patience.total),
    )
