"""`kaito-runtime adapter`: one adapter, of an image or a mounted volume, into KAITO_ADAPTER_DIR.

An adapter image is any image with /data/adapter_config.json and /data/adapter_model.safetensors; a volume holds the two
files itself, in `data/` (as images do) or in `adapter/` (as the tuning output does). Either is made beside and renamed,
so that a server never sees half an adapter.
"""

from __future__ import annotations

import asyncio
import hashlib
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
SOURCE = ".source"  # inside the adapter's folder: the digest of what it was made from
FOLDERS = ("", "data", "adapter")
"""Where in a volume the adapter's files may be, the first that has any of them."""


def run() -> int:
    return run_step("adapter", fetch_adapter)


def fetch_adapter(step: Step) -> Mapping[str, Any]:
    """The step. An adapter that is there already, from the same source, is left as it is."""
    if step.environ.get("KAITO_ADAPTER_SOURCE_DIR"):
        return _copy_adapter(step, step.path("KAITO_ADAPTER_SOURCE_DIR"))
    if not step.environ.get("KAITO_ADAPTER_IMAGE"):
        raise InputError(
            "EnvironmentMissing",
            "neither KAITO_ADAPTER_IMAGE nor KAITO_ADAPTER_SOURCE_DIR is set",
            "give the adapter's source an image or a volume",
        )
    reference = image_reference(step, "KAITO_ADAPTER_IMAGE")
    target = step.path("KAITO_ADAPTER_DIR")
    step.progress.running(f"pulling the adapter {reference}")
    digest = _resolve(step, reference)
    if _have(target) != digest:
        _replace(target, _unpack(step, reference.at(digest), target))
        (target / SOURCE).write_text(digest)
    step.say("adapter is ready", image=str(reference), digest=digest)
    return {"image": str(reference), "digest": digest}


def _copy_adapter(step: Step, source: Path) -> Mapping[str, Any]:
    """Copy an adapter from a volume: the volume may change or go while the server lives."""
    target = step.path("KAITO_ADAPTER_DIR")
    step.progress.running("reading the adapter of the volume")
    found = _find_adapter(source)
    digest = _digest(found)
    if _have(target) != digest:
        made = target.with_name(f".{target.name}.new") / "data"
        shutil.rmtree(made.parent, ignore_errors=True)
        made.mkdir(parents=True)
        for file in sorted(found.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                shutil.copyfile(file, made / file.name)
        check_adapter(made, "the volume", "put the adapter's two files there")
        _replace(target, made)
        (target / SOURCE).write_text(digest)
    step.say("adapter is ready", folder=str(found), digest=digest)
    return {"digest": digest}


def _find_adapter(source: Path) -> Path:
    """The folder of the volume that holds the adapter; what it lacks, if anything, is said of that one."""
    hint = "put adapter_config.json and adapter_model.safetensors there, in data/ or in adapter/"
    if not source.is_dir():
        raise InputError("AdapterNotFound", f"the volume has no folder {source.name}", hint)
    places = [source / folder for folder in FOLDERS]
    found = next((place for place in places if (place / CONFIG).is_file() or (place / WEIGHTS).is_file()), None)
    if found is None:
        raise InputError("AdapterNotFound", f"no adapter is in the folder {source.name} of the volume", hint)
    check_adapter(found, "the volume", hint)
    return found


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


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


def check_adapter(folder: Path, what: str, hint: str = "") -> None:
    """Raises InputError unless the folder holds a LoRA adapter; `what` and `hint` are for its words."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            message = f"{what} has no /{folder.name}/{name}"
            raise InputError("AdapterInvalid", message, hint or "push an image that holds the two files in /data")
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise InputError(
            "AdapterInvalid", f"{CONFIG} of {what} is not JSON: {error}", hint or "push the adapter again"
        ) from error
    if not isinstance(config, dict) or "peft_type" not in config:
        raise InputError(
            "AdapterInvalid", f"{CONFIG} of {what} has no peft_type", hint or "give an adapter that PEFT saved"
        )


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
