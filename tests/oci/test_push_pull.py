"""Push and pull against real registries: ours, and Debian's docker-registry; read by skopeo."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kaito.local.registry import Registry
from kaito.oci.auth import DockerConfig, write_docker_config
from kaito.oci.client import RegistryClient
from kaito.oci.errors import DigestMismatch, NotFound, Unauthorized, Unreachable
from kaito.oci.image import ImageMetadata, attach, pull_image, push_image, subject_of
from kaito.oci.reference import Reference, parse_reference
from kaito.oci.session import RetryPolicy, Session
from tests.oci.registries import PASSWORD, USER, docker_registry, free_port, tool

QUICK = RetryPolicy(tries=3, first=0.01, most=0.02)


@pytest.fixture
def adapter(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 12_000)  # 3 MB
    return {f"data/{one.name}": one for one in folder.iterdir()}


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("debian")
    with docker_registry(root) as name:
        write_docker_config(root / "config.json", name, USER, PASSWORD)
        yield name, root / "config.json"


@pytest.fixture
async def ours(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    registry = Registry(tmp_path / "registry")
    await registry.start()
    yield registry.name, tmp_path / "registry" / "config.json"
    await registry.stop()


@pytest.fixture(params=["ours", pytest.param("debian", marks=pytest.mark.tools)])
def registry(request: pytest.FixtureRequest) -> tuple[str, Path]:
    place: tuple[str, Path] = request.getfixturevalue(request.param)
    return place


async def test_push_then_pull_gives_the_same_files(
    registry: tuple[str, Path], adapter: dict[str, Path], tmp_path: Path
) -> None:
    name, config = registry
    reference = parse_reference(f"{name}/team/phi-3:0.0.1")
    async with Session(DockerConfig(config)) as session:
        client = RegistryClient(session, upload_chunk=100_000)  # many PATCH requests
        first = await push_image(client, reference, adapter, ImageMetadata({"sh.kaito.model.name": "tiny-phi-3"}))
        again = await push_image(client, reference, adapter, ImageMetadata({"sh.kaito.model.name": "tiny-phi-3"}))
        assert first == again
        digest = await pull_image(client, reference.at(first.digest), tmp_path / "pulled")
        assert await client.tags(reference) == ["0.0.1"]
    assert digest == first.digest
    for inside, path in adapter.items():
        assert (tmp_path / "pulled" / inside).read_bytes() == path.read_bytes()


@pytest.mark.tools
async def test_skopeo_reads_and_copies_it(registry: tuple[str, Path], adapter: dict[str, Path], tmp_path: Path) -> None:
    skopeo = tool("skopeo")
    name, config = registry
    async with Session(DockerConfig(config)) as session:
        pushed = await push_image(RegistryClient(session), parse_reference(f"{name}/a:1"), adapter)
    import asyncio

    async def run(*arguments: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run, [skopeo, *arguments], check=True, capture_output=True, text=True, timeout=60
        )
        return str(done.stdout)

    login = ["--authfile", str(config)]
    shown = json.loads(await run("inspect", *login, "--tls-verify=false", f"docker://{name}/a:1"))
    assert shown["Digest"] == pushed.digest
    copied = f"dir:{tmp_path}/copied"
    await run("copy", "--src-authfile", str(config), "--src-tls-verify=false", f"docker://{name}/a:1", copied)
    back = f"docker://{name}/b/copied:2"
    await run("copy", "--dest-authfile", str(config), "--dest-tls-verify=false", copied, back)
    async with Session(DockerConfig(config)) as session:
        reference = parse_reference(f"{name}/b/copied:2")
        assert await pull_image(RegistryClient(session), reference, tmp_path / "p") == pushed.digest


async def test_report_is_attached_as_a_referrer(registry: tuple[str, Path], adapter: dict[str, Path]) -> None:
    name, config = registry
    reference = parse_reference(f"{name}/reports:1")
    async with Session(DockerConfig(config)) as session:
        client = RegistryClient(session)
        pushed = await push_image(client, reference, adapter)
        report = {"report.json": ("application/json", b'{"evalLoss": 1.0}')}
        for _ in range(2):  # the same again: still one referrer
            await attach(client, reference, subject_of(pushed), "application/vnd.kaito.report", report)
        found = await client.referrers(reference, pushed.digest)
        assert [one["artifactType"] for one in found] == ["application/vnd.kaito.report"]
        _, manifest = await client.pull_manifest(reference.at(found[0]["digest"]))
        layer = json.loads(manifest)["layers"][0]
        assert await client.pull_bytes(reference, layer) == b'{"evalLoss": 1.0}'


async def test_blob_is_mounted_from_a_sibling(registry: tuple[str, Path], tmp_path: Path) -> None:
    name, config = registry
    (tmp_path / "blob").write_bytes(b"shared content")
    async with Session(DockerConfig(config)) as session:
        client = RegistryClient(session)
        digest = await client.push_bytes(Reference(name, "one"), b"shared content")
        await client.push_blob(Reference(name, "two"), tmp_path / "blob", digest, mount_from="one")
        assert await client.has_blob(Reference(name, "two"), digest)


async def test_wrong_password_is_unauthorized(
    registry: tuple[str, Path], adapter: dict[str, Path], tmp_path: Path
) -> None:
    name, _ = registry
    write_docker_config(tmp_path / "wrong.json", name, USER, "wrong")
    async with Session(DockerConfig(tmp_path / "wrong.json"), retry=QUICK) as session:
        with pytest.raises(Unauthorized) as caught:
            await push_image(RegistryClient(session), parse_reference(f"{name}/x:1"), adapter)
    assert "wrong" not in str(caught.value)


async def test_no_credentials_is_unauthorized(registry: tuple[str, Path]) -> None:
    async with Session() as session:
        with pytest.raises(Unauthorized, match="no credentials"):
            await RegistryClient(session).pull_manifest(parse_reference(f"{registry[0]}/x:1"))


async def test_missing_image_is_not_found(registry: tuple[str, Path]) -> None:
    name, config = registry
    async with Session(DockerConfig(config)) as session:
        with pytest.raises(NotFound, match="nothing/here:1"):
            await RegistryClient(session).pull_manifest(parse_reference(f"{name}/nothing/here:1"))


async def test_closed_port_is_unreachable() -> None:
    async with Session(retry=QUICK) as session:
        with pytest.raises(Unreachable):
            await RegistryClient(session).tags(Reference(f"127.0.0.1:{free_port()}", "x"))


async def test_wrong_digest_is_caught_and_kept_out(ours: tuple[str, Path], tmp_path: Path) -> None:
    name, config = ours
    root = config.parent
    async with Session(DockerConfig(config), retry=QUICK) as session:
        client = RegistryClient(session)
        digest = await client.push_bytes(Reference(name, "x"), b"good content")
        (blob,) = root.glob(f"blobs/sha256/*/{digest.removeprefix('sha256:')}")
        blob.write_bytes(b"evil content")
        with pytest.raises(DigestMismatch):
            await client.pull_blob(Reference(name, "x"), {"digest": digest, "size": 12}, tmp_path / "got")
    assert not (tmp_path / "got").exists()
