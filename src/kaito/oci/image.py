"""Whole images: push files as an image of one layer, pull an image into a folder, attach artifacts to it.

The image is a real one (config with diff_ids), because pullers that expect container images (skopeo, containerd, the
adapter pullers of existing clusters) refuse bare artifacts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito.oci.client import Moved, RegistryClient, fallback_tag, ignore_moved
from kaito.oci.digest import (
    CONFIG,
    DOCKER_LIST,
    EMPTY,
    EMPTY_JSON,
    INDEX,
    MANIFEST,
    Descriptor,
    descriptor,
    digest_of,
)
from kaito.oci.errors import BadImage, NotFound
from kaito.oci.layer import GZIP_LEVEL, Limits, unpack_layers, write_layer
from kaito.oci.reference import Reference

EPOCH = "1970-01-01T00:00:00Z"  # one fixed time, so that the same content has the same digest


@dataclass(frozen=True)
class Pushed:
    """An image in its registry: `digest` of the manifest, `size` of it in bytes, `layer_size` of its content."""

    digest: str
    size: int
    layer_size: int


@dataclass(frozen=True)
class ImageMetadata:
    """What the image says of itself. An adapter fits every platform; amd64 is what pullers look for by default."""

    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "amd64"


async def push_image(
    client: RegistryClient,
    reference: Reference,
    files: Mapping[str, Path],
    metadata: ImageMetadata | None = None,
    *,
    moved: Moved = ignore_moved,
    scratch: Path | None = None,
    compression: int = GZIP_LEVEL,
) -> Pushed:
    """Push `files` (name in the image -> file) as an image of one layer. The same content gives the same digest."""
    metadata = metadata or ImageMetadata()
    with tempfile.TemporaryDirectory(dir=scratch, prefix="layer-") as folder:
        layer = write_layer(files, Path(folder) / "layer.tar.gz", compression)
        await client.push_blob(reference, layer.path, layer.digest, moved=moved)
    config = _config(layer.diff_id, metadata)
    await client.push_bytes(reference, config)
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
            **({"annotations": dict(sorted(metadata.annotations.items()))} if metadata.annotations else {}),
        }
    )
    digest = await client.push_manifest(reference, manifest)
    return Pushed(digest, len(manifest), layer.size)


async def pull_image(
    client: RegistryClient,
    reference: Reference,
    target: Path,
    *,
    limits: Limits | None = None,
    platform: tuple[str, str] = ("linux", "amd64"),
    moved: Moved = ignore_moved,
) -> str:
    """Unpack an image's layers into the folder `target` and return its manifest's digest."""
    digest, manifest = await pull_manifest(client, reference, platform)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".layers-") as folder:
        layers: list[tuple[Path, str]] = []
        for index, blob in enumerate(_layers(manifest, reference)):
            path = Path(folder) / str(index)
            await client.pull_blob(reference, blob, path, moved)
            layers.append((path, str(blob["mediaType"])))
        unpack_layers(layers, target, limits)
    return digest


async def pull_manifest(
    client: RegistryClient, reference: Reference, platform: tuple[str, str] = ("linux", "amd64")
) -> tuple[str, dict[str, Any]]:
    """The image manifest, out of an index if need be, and its digest. Raises BadImage for anything else."""
    digest, content = await client.pull_manifest(reference)
    manifest = _object(content, reference)
    if manifest.get("mediaType") in (INDEX, DOCKER_LIST) or "manifests" in manifest:
        chosen = _choose(manifest, platform, reference)
        digest, content = await client.pull_manifest(reference.at(chosen))
        manifest = _object(content, reference)
    if not isinstance(manifest.get("layers"), list):
        raise BadImage(f"{reference} is neither an image nor an index of images")
    return digest, manifest


async def attach(
    client: RegistryClient,
    reference: Reference,
    subject: Descriptor,
    artifact_type: str,
    files: Mapping[str, tuple[str, bytes]],
) -> str:
    """Attach small files (name -> media type, content) to the manifest `subject` as an OCI referrer; its digest."""
    await client.push_bytes(reference, EMPTY_JSON)
    layers = []
    for name, (media_type, content) in files.items():
        await client.push_bytes(reference, content)
        layers.append({**descriptor(media_type, content), "annotations": {"org.opencontainers.image.title": name}})
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": descriptor(EMPTY, EMPTY_JSON),
            "layers": layers,
            "subject": subject,
        }
    )
    by_digest = Reference(reference.registry, reference.repository)
    digest = await client.push_manifest(by_digest, manifest)
    if not await client.has_referrers_api(by_digest, str(subject["digest"])):
        entry = {**descriptor(MANIFEST, manifest), "artifactType": artifact_type}
        await _list_in_fallback(client, by_digest, str(subject["digest"]), entry)
    return digest


async def _list_in_fallback(client: RegistryClient, reference: Reference, subject: str, entry: Descriptor) -> None:
    tag = fallback_tag(reference, subject)
    try:
        _, content = await client.pull_manifest(tag)
        present = list(_object(content, tag).get("manifests") or [])
    except NotFound:
        present = []
    kept = [one for one in present if one.get("digest") != entry["digest"]]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*kept, entry]}
    await client.push_manifest(tag, _encode(index), INDEX)


def _config(diff_id: str, metadata: ImageMetadata) -> bytes:
    return _encode(
        {
            "created": EPOCH,
            "architecture": metadata.architecture,
            "os": "linux",
            "config": {"Labels": dict(sorted(metadata.labels.items()))} if metadata.labels else {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": EPOCH, "created_by": "kaito-runtime publish"}],
        }
    )


def _layers(manifest: Mapping[str, Any], reference: Reference) -> list[Descriptor]:
    layers = manifest["layers"]
    for blob in layers:
        if not isinstance(blob, dict) or not {"mediaType", "digest", "size"} <= blob.keys():
            raise BadImage(f"the manifest of {reference} has a layer without mediaType, digest or size")
    return list(layers)


def _choose(index: Mapping[str, Any], platform: tuple[str, str], reference: Reference) -> str:
    entries = [one for one in index.get("manifests") or [] if isinstance(one, dict) and "digest" in one]
    for one in entries:
        offered = one.get("platform") or {}
        if (offered.get("os"), offered.get("architecture")) == platform:
            return str(one["digest"])
    if len(entries) == 1:
        return str(entries[0]["digest"])
    raise BadImage(f"{reference} has no image for {'/'.join(platform)}")


def _object(content: bytes, reference: Reference) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise BadImage(f"the manifest of {reference} is not JSON") from error
    if not isinstance(manifest, dict):
        raise BadImage(f"the manifest of {reference} is not an object")
    return manifest


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def subject_of(pushed: Pushed) -> Descriptor:
    """The descriptor by which a referrer names a pushed image."""
    return {"mediaType": MANIFEST, "digest": pushed.digest, "size": pushed.size}


__all__ = [
    "ImageMetadata",
    "Pushed",
    "attach",
    "digest_of",
    "pull_image",
    "pull_manifest",
    "push_image",
    "subject_of",
]
