"""Weights from a registry: whole systems with the model in one folder, and artifacts whose layers are the files."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kaito.local.registry import Registry
from kaito.oci.auth import DockerConfig
from kaito.oci.client import RegistryClient
from kaito.oci.digest import MANIFEST
from kaito.oci.reference import parse_reference
from kaito.oci.session import Session
from kaito.runtime.model.image import is_wanted
from tests.runtime.model.test_model_step import environ, run

WEIGHTS = {"config.json": b'{"model_type": "phi3"}', "tokenizer.json": b"{}", "model.safetensors": bytes(200_000)}
TAR = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    made = Registry(tmp_path / "registry")
    await made.start()
    yield made
    await made.stop()


def tar_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name, end in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, end
            tar.addfile(entry)
    return packed.getvalue()


async def push(registry: Registry, root: Path, layers: list[tuple[bytes, dict[str, Any]]]) -> str:
    """An image of these layers (content, descriptor fields); returns its name."""
    image = f"{registry.name}/models/made:1"
    reference = parse_reference(image)
    async with Session(DockerConfig(root / "registry" / "config.json")) as session:
        client = RegistryClient(session)
        made = [
            {"mediaType": TAR, "digest": await client.push_bytes(reference, content), "size": len(content), **fields}
            for content, fields in layers
        ]
        config = await client.push_bytes(reference, b"{}")
        described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": made}
        await client.push_manifest(reference, json.dumps(manifest).encode())
    return image


async def fetched(registry: Registry, root: Path, image: str) -> tuple[int, dict[str, Any], Path]:
    variables = environ(root, {"image": image}) | {"KAITO_REGISTRY_AUTH": str(root / "registry" / "config.json")}
    code, said = await asyncio.to_thread(run, variables)
    return code, said, root / "model"


@pytest.mark.parametrize("folder", ["workspace/tfs/weights", "workspace/weights", "opt/somewhere"])
async def test_a_whole_system_around_the_weights(registry: Registry, tmp_path: Path, folder: str) -> None:
    """Links to the root, a library's own config.json and files of the system are passed over."""
    system = tar_of(
        {"usr/lib/python3/site-packages/lib/config.json": b"{}", "etc/passwd": b"root", "workspace/config.json": b"{}"},
        {"usr/bin/python": "/usr/bin/python3", "lib": "/usr/lib", "etc/localtime": "/usr/share/zoneinfo/UTC"},
    )
    model = tar_of({f"./{folder}/{name}": content for name, content in WEIGHTS.items()})
    image = await push(registry, tmp_path, [(system, {}), (model, {})])
    code, _, target = await fetched(registry, tmp_path, image)
    assert code == 0
    found = sorted(path.name for path in target.iterdir() if not path.name.startswith("."))
    assert found == sorted(WEIGHTS)
    assert (target / "model.safetensors").read_bytes() == WEIGHTS["model.safetensors"]


async def test_an_artifact_whose_layers_are_files(registry: Registry, tmp_path: Path) -> None:
    title = "org.opencontainers.image.title"
    layers = [
        (content, {"mediaType": "application/x", "annotations": {title: name}}) for name, content in WEIGHTS.items()
    ]
    code, _, target = await fetched(registry, tmp_path, await push(registry, tmp_path, layers))
    assert code == 0
    assert (target / "model.safetensors").read_bytes() == WEIGHTS["model.safetensors"]


async def test_an_artifact_of_one_packed_folder(registry: Registry, tmp_path: Path) -> None:
    fields = {
        "annotations": {"org.opencontainers.image.title": "weights", "io.deis.oras.content.unpack": "true"},
    }
    packed = tar_of({f"weights/{name}": content for name, content in WEIGHTS.items()})
    code, _, target = await fetched(registry, tmp_path, await push(registry, tmp_path, [(packed, fields)]))
    assert code == 0
    assert (target / "config.json").read_bytes() == WEIGHTS["config.json"]


async def test_the_model_format_of_the_cncf(registry: Registry, tmp_path: Path) -> None:
    path = "org.cncf.model.filepath"
    kind = "application/vnd.cncf.model"
    layers = [
        (WEIGHTS["config.json"], {"mediaType": f"{kind}.weight.config.v1.raw", "annotations": {path: "config.json"}}),
        (
            tar_of({"model.safetensors": WEIGHTS["model.safetensors"]}),
            {"mediaType": f"{kind}.weight.v1.tar", "annotations": {path: "model.safetensors"}},
        ),
    ]
    code, _, target = await fetched(registry, tmp_path, await push(registry, tmp_path, layers))
    assert code == 0
    assert (target / "model.safetensors").read_bytes() == WEIGHTS["model.safetensors"]


async def test_a_name_that_leads_out_is_refused(registry: Registry, tmp_path: Path) -> None:
    fields = {"mediaType": "application/x", "annotations": {"org.opencontainers.image.title": "../escape"}}
    code, said, target = await fetched(registry, tmp_path, await push(registry, tmp_path, [(b"x", fields)]))
    assert (code, said["reason"]) == (2, "ImageInvalid")
    assert not (target.parent / "escape").exists()


def test_what_is_of_the_system() -> None:
    from pathlib import PurePosixPath as P

    assert not any(is_wanted(P(name)) for name in ("usr/lib/x", "./etc/passwd", "/var/x", "bin", ".wh.usr"))
    assert all(is_wanted(P(name)) for name in (".", "workspace/tfs/weights/config.json", "models/usr/x"))
