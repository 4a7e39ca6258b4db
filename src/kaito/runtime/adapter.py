"""`kaito-runtime adapter`: one adapter image into KAITO_ADAPTER_DIR.

An adapter image is any image with /data/adapter_config.json and /data/adapter_model.safetensors. It is unpacked beside
and renamed, so that a server never sees half an adapter.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaito.oci.client import RegistryClient
from kaito.oci.errors import OciError
from kaito.oci.image import pull_image, pull_manifest
from kaito.oci.layer import Limits
from kaito.oci.reference import Reference
from kaito.runtime.errors import InputError
from kaito.runtime.registry import image_reference, open_session, pull_failure
from kaito.runtime.step import Step, run_step

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SOURCE = ".source"  # inside the adapter's folder: the digest that it was unpacked from


def run() -> int:
    return run_step("adapter", fetch_adapter)


def fetch_adapter(step: Step) -> Mapping[str, Any]:
    """The step. An adapter that is there already, from the same digest, is left as it is."""
    reference = image_reference(step, "KAITO_ADAPTER_IMAGE")
    target = step.path("KAITO_ADAPTER_DIR")
    step.progress.running(f"pulling the adapter {reference}")
    digest = _resolve(step, reference)
    if _have(target) != digest:
        _replace(target, _unpack(step, reference.at(digest), target))
        (target / SOURCE).write_text(digest)
    step.say("adapter is ready", image=str(reference), digest=digest)
    return {"image": str(reference), "digest": digest}


def pull_data(step: Step, folder: Path) -> Path:
    """Unpack KAITO_DATA_IMAGE into `folder` (its files are under `data/`)."""
    reference = image_reference(step, "KAITO_DATA_IMAGE")
    step.progress.running(f"pulling the data image {reference}")
    pull_into(step, reference, folder, "data")
    return folder


def pull_into(step: Step, reference: Reference, folder: Path, what: str) -> str:
    """Unpack an image into a fresh `folder`; returns its digest. Raises RuntimeFailure."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    limits = Limits(size=int(step.number("KAITO_UNPACK_LIMIT_BYTES", Limits().size)))
    counts = {"bytesDone": 0}

    def moved(count: int) -> None:
        counts["bytesDone"] += count
        step.progress.update(**counts)

    async def pull() -> str:
        async with open_session(step) as session:
            return await pull_image(RegistryClient(session), reference, folder, limits=limits, moved=moved)

    try:
        return asyncio.run(pull())
    except OciError as error:
        raise pull_failure(error, what) from error


def _resolve(step: Step, reference: Reference) -> str:
    async def resolve() -> str:
        async with open_session(step) as session:
            return (await pull_manifest(RegistryClient(session), reference))[0]

    try:
        return asyncio.run(resolve())
    except OciError as error:
        raise pull_failure(error, "adapter") from error


def _have(target: Path) -> str:
    try:
        return (target / SOURCE).read_text()
    except OSError:
        return ""


def _unpack(step: Step, reference: Reference, target: Path) -> Path:
    """The checked adapter in a folder beside `target`."""
    beside = target.with_name(f".{target.name}.new")
    pull_into(step, reference, beside, "adapter")
    data = beside / "data"
    check_adapter(data, str(reference))
    return data


def check_adapter(folder: Path, what: str) -> None:
    """Raises InputError unless the folder holds a LoRA adapter."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(
                "AdapterInvalid",
                f"{what} has no /data/{name}",
                "push an image that holds the adapter's two files in /data",
            )
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise InputError(
            "AdapterInvalid", f"{CONFIG} of {what} is not JSON: {error}", "push the adapter again"
        ) from error
    if not isinstance(config, dict) or "peft_type" not in config:
        raise InputError("AdapterInvalid", f"{CONFIG} of {what} has no peft_type", "push an adapter that PEFT saved")


def _replace(target: Path, made: Path) -> None:
    """Swap whole folders; when `target` is a volume's root, which cannot be renamed, its content is swapped."""
    if target.is_mount():
        for child in target.iterdir():
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
        for child in made.iterdir():
            shutil.move(child, target / child.name)
    else:
        shutil.rmtree(target, ignore_errors=True)
        made.replace(target)
    shutil.rmtree(made.parent, ignore_errors=True)
