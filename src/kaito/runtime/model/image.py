"""Weights out of a registry: an image with a model's folder somewhere in it, or an artifact whose layers are the files.

KAITO's own images are whole systems with the weights in one folder; the rest of them is passed over. Artifacts come
from `oras push` (a title on each layer) or in the CNCF's model format (a file path on each). Each layer is dropped once
it is unpacked, so that the disk needs little more than the weights.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from kaito.oci.client import RegistryClient
from kaito.oci.digest import LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD
from kaito.oci.errors import BadImage, BadReference, OciError
from kaito.oci.image import pull_manifest
from kaito.oci.layer import Limits, unpack_layers
from kaito.oci.reference import Reference, parse_reference
from kaito.runtime.errors import InputError
from kaito.runtime.registry import open_session, pull_failure
from kaito.runtime.step import Step

# Folders of the system around the weights.
SYSTEM = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "media", "proc", "root", "run", "sbin", "srv",
     "sys", "tmp", "usr", "var"}
)  # fmt: skip
# Where KAITO's images have had their weights, oldest last.
KNOWN = ("workspace/weights", "workspace/vllm/weights", "workspace/tfs/weights", "weights", "models", "model", "data")
TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
UNPACK = "io.deis.oras.content.unpack"  # on a folder that oras has packed


def fetch_image(step: Step, image: str, target: Path) -> str:
    """The model's files of `image` into `target`; returns the digest. Raises InputError or StepError."""
    try:
        reference = parse_reference(image)
    except BadReference as error:
        raise InputError("ImageInvalid", str(error), "correct the model's image") from error
    unpacked, scratch = target / ".image", target / ".layers"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    scratch.mkdir(exist_ok=True)
    try:
        digest = asyncio.run(_pull(step, reference, unpacked, scratch))
    except OciError as error:
        raise pull_failure(error, "model") from error
    folder = find_model(unpacked)
    if folder is None:
        raise InputError(
            "ModelInvalid", f"the image {image} holds no config.json", "use an image with a model's folder"
        )
    for child in list(folder.iterdir()):
        place = target / child.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        child.replace(place)
    shutil.rmtree(unpacked)
    shutil.rmtree(scratch)
    return digest


async def _pull(step: Step, reference: Reference, unpacked: Path, scratch: Path) -> str:
    limits = Limits(size=int(step.number("KAITO_UNPACK_LIMIT_BYTES", Limits().size)))
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        step.progress.update(bytesDone=done)

    async with open_session(step) as session:
        client = RegistryClient(session)
        digest, manifest = await pull_manifest(client, reference)
        layers = manifest["layers"]
        if not all(isinstance(one, dict) and {"mediaType", "digest", "size"} <= one.keys() for one in layers):
            raise BadImage(f"the manifest of {reference} has a layer without mediaType, digest or size")
        step.progress.update(bytesTotal=sum(int(one["size"]) for one in layers))
        for number, layer in enumerate(layers):
            path = scratch / f"{number}-{str(layer['digest']).rpartition(':')[2][:16]}"
            await client.pull_blob(reference, layer, path, moved)
            await asyncio.to_thread(_place, path, layer, unpacked, limits)
            path.unlink(missing_ok=True)
    return digest


def _place(path: Path, layer: Mapping[str, Any], unpacked: Path, limits: Limits) -> None:
    """One layer: a file with a name, or a tar file over those before it."""
    annotations = layer.get("annotations") or {}
    title = next((str(annotations[key]) for key in TITLES if annotations.get(key)), "")
    media = str(layer["mediaType"])
    packed = next((found for end, found in TARS if media.endswith(end)), "")
    if title and annotations.get(UNPACK) != "true" and not (packed and "cncf.model" in media):
        name = PurePosixPath(title)
        if name.is_absolute() or ".." in name.parts:
            raise BadImage(f"the artifact holds {title!r}, which lies outside its folder")
        place = unpacked / name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    elif packed:
        unpack_layers([(path, packed)], unpacked, limits, is_wanted)


TARS = (
    ("tar+gzip", LAYER_TAR_GZIP),
    ("tar.gzip", LAYER_TAR_GZIP),
    ("tar+zstd", LAYER_TAR_ZSTD),
    ("tar", LAYER_TAR),
)


def is_wanted(name: PurePosixPath) -> bool:
    """Not of the system around the weights."""
    parts = [part for part in name.parts if part not in (".", "/")]
    return not parts or parts[0].removeprefix(".wh.") not in SYSTEM


def find_model(root: Path) -> Path | None:
    """The folder of the model: one with weights before one without, KAITO's own places first, else the highest."""
    folders = [path.parent for path in root.rglob("config.json")]

    def rank(folder: Path) -> tuple[bool, int, int, str]:
        name = folder.relative_to(root).as_posix()
        place = KNOWN.index(name) if name in KNOWN else len(KNOWN)
        return (not any(folder.glob("*.safetensors")), place, len(folder.parts), name)

    return min(folders, key=rank, default=None)
