"""The model's figures out of an OCI artifact, for `kaito plan --model-image`: two small files and the layers' sizes.

Artifacts hold one file a layer, named by a title (`oras push`) or a file path (the CNCF's model format). An image whose
files are packed into tars would have to be fetched whole, and is refused with a way out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from kaito.catalog.architecture import ConfigIncomplete, parse_config
from kaito.catalog.models import Model, figures_of
from kaito.cli.errors import CommandError, UsageError
from kaito.oci.auth import DockerConfig
from kaito.oci.client import RegistryClient
from kaito.oci.errors import BadReference, OciError, Unauthorized
from kaito.oci.image import pull_manifest
from kaito.oci.reference import Reference, parse_reference
from kaito.oci.session import RetryPolicy, Session

TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
CONFIG = "config.json"
WEIGHTS = ".safetensors"


def read_image(model: Model, image: str) -> Model:
    """`model` with the figures of `image`, read with the logins of ~/.docker/config.json.

    Raises UsageError for what is no reference, CommandError for what cannot be read.
    """
    try:
        reference = parse_reference(image)
    except BadReference as error:
        raise UsageError(str(error), "write it as registry/repository:tag") from error
    try:
        config, weights = asyncio.run(_read(reference))
    except Unauthorized as error:
        raise CommandError(str(error), f"log in with `docker login {reference.registry}`") from error
    except OciError as error:
        raise CommandError(str(error), "check the reference and the network") from error
    try:
        figures = figures_of(parse_config(config), weights)
    except ConfigIncomplete as error:
        raise CommandError(f"{image}: {error}", "choose an image of a language model") from error
    architectures = config.get("architectures") or [""]
    return msgspec.structs.replace(model, figures=figures, architecture=str(architectures[0]))


async def _read(reference: Reference) -> tuple[Mapping[str, Any], int]:
    logins = Path.home() / ".docker" / "config.json"
    session = Session(DockerConfig(logins if logins.is_file() else None), retry=RetryPolicy(tries=2))
    async with session:
        client = RegistryClient(session)
        _, manifest = await pull_manifest(client, reference)
        files = {name: layer for layer in manifest["layers"] if (name := _title(layer))}
        weights = sum(int(layer["size"]) for name, layer in files.items() if _is_weights(name))
        if CONFIG not in files or not weights:
            raise CommandError(
                f"{reference} does not hold {CONFIG} and {WEIGHTS} files, each as a layer of its own",
                "unpack it and name its folder with --model-folder",
            )
        content = await client.pull_bytes(reference, files[CONFIG])
    try:
        config = json.loads(content)
    except ValueError as error:
        raise CommandError(f"{CONFIG} of {reference} is not JSON", "push the model again") from error
    return (config if isinstance(config, dict) else {}), weights


def _title(layer: Mapping[str, Any]) -> str:
    annotations = layer.get("annotations") or {}
    found = next((str(annotations[key]) for key in TITLES if annotations.get(key)), "")
    return PurePosixPath(found).name


def _is_weights(name: str) -> bool:
    """`consolidated` files hold the same weights a second time, in Mistral's own layout."""
    return name.endswith(WEIGHTS) and not name.startswith("consolidated")
