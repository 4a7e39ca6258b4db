"""`kaito-runtime publish` and `adapter`: through a real registry, with a secret that is mended while it waits."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaito.local.registry import Registry
from kaito.oci.auth import DockerConfig, write_docker_config
from kaito.oci.client import RegistryClient
from kaito.oci.image import push_image
from kaito.oci.reference import parse_reference
from kaito.oci.session import Session
from kaito.runtime.adapter import fetch_adapter
from kaito.runtime.errors import StepError
from kaito.runtime.progress import Progress
from kaito.runtime.publish.main import REPORT_TYPE, Patience, publish
from kaito.runtime.step import Step, run_step
from tests.oci.registries import free_port, tool


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    made = Registry(tmp_path / "registry")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    adapter = tmp_path / "out" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    (adapter / "adapter_model.safetensors").write_bytes(bytes(100_000))
    report = {"evalLoss": 0.5, "baseEvalLoss": 2.0, "dataDigest": "sha256:1", "method": "qlora"}
    (tmp_path / "out" / "report.json").write_text(json.dumps(report))
    return tmp_path / "out"


def environ(tmp_path: Path, registry: Registry) -> dict[str, str]:
    return {
        "KAITO_HOST": "127.0.0.1",
        "KAITO_PORT": "0",
        "KAITO_TERMINATION_LOG": str(tmp_path / "last"),
        "KAITO_OUTPUT_DIR": str(tmp_path / "out"),
        "KAITO_OUTPUT_IMAGE": f"{registry.name}/tuned:1",
        "KAITO_REGISTRY_AUTH": str(tmp_path / "registry" / "config.json"),
        "KAITO_PRESET": "tiny-phi-3",
        "KAITO_PUSH_RETRY_SECONDS": "0.02",
        "KAITO_PUSH_RETRY_MAX_SECONDS": "0.05",
    }


def words(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "last").read_text()))


async def run(name: str, function: Any, variables: dict[str, str]) -> int:
    return await asyncio.to_thread(run_step, name, function, environ=variables)


async def test_published_then_pulled_as_an_adapter(registry: Registry, output: Path, tmp_path: Path) -> None:
    variables = environ(tmp_path, registry)
    assert await run("publish", publish, variables) == 0
    said = words(tmp_path)
    assert said["image"] == f"{registry.name}/tuned:1"
    assert said["digest"].startswith("sha256:")
    assert (said["evalLoss"], said["baseEvalLoss"]) == (0.5, 2.0)
    variables |= {
        "KAITO_ADAPTER_IMAGE": f"{registry.name}/tuned@{said['digest']}",
        "KAITO_ADAPTER_DIR": str(tmp_path / "a"),
    }
    assert await run("adapter", fetch_adapter, variables) == 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (output / "adapter" / name).read_bytes()
    before = (tmp_path / "a" / "adapter_config.json").stat().st_mtime_ns
    assert await run("adapter", fetch_adapter, variables) == 0  # the same digest: left as it is
    assert (tmp_path / "a" / "adapter_config.json").stat().st_mtime_ns == before


async def test_again_gives_the_same_digest_and_one_report(registry: Registry, output: Path, tmp_path: Path) -> None:
    variables = environ(tmp_path, registry)
    assert await run("publish", publish, variables) == 0
    first = words(tmp_path)["digest"]
    assert await run("publish", publish, variables) == 0
    assert words(tmp_path)["digest"] == first
    async with Session(DockerConfig(tmp_path / "registry" / "config.json")) as session:
        client = RegistryClient(session)
        found = await client.referrers(parse_reference(variables["KAITO_OUTPUT_IMAGE"]), first)
    assert [one["artifactType"] for one in found] == [REPORT_TYPE]


@pytest.mark.tools
async def test_skopeo_sees_a_real_image(registry: Registry, output: Path, tmp_path: Path) -> None:
    assert await run("publish", publish, environ(tmp_path, registry)) == 0
    login = ["--authfile", str(tmp_path / "registry" / "config.json"), "--tls-verify=false"]
    image = f"docker://{registry.name}/tuned:1"
    command = [tool("skopeo"), "inspect", *login, image]
    shown = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
    assert json.loads(shown.stdout)["Digest"] == words(tmp_path)["digest"]
    raw = await asyncio.to_thread(subprocess.run, [*command, "--raw"], check=True, capture_output=True, timeout=60)
    assert json.loads(raw.stdout)["annotations"]["sh.kaito.model.name"] == "tiny-phi-3"


async def wait_until(progress: Progress, **wanted: str) -> dict[str, Any]:
    """Polls as the controller does, until the record says what is wanted."""
    async with asyncio.timeout(20):
        while not wanted.items() <= (fields := progress.snapshot()).items():
            await asyncio.sleep(0.01)
    return fields


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("wrong password", "PushUnauthorized"),
        ("{}", "PushUnauthorized"),
        ("not json", "PushSecretInvalid"),
    ],
)
async def test_a_refused_push_waits_for_the_mended_secret(
    content: str, reason: str, registry: Registry, output: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.json"
    if content == "wrong password":
        write_docker_config(secret, registry.name, "kaito", "wrong")
    else:
        secret.write_text(content)
    step = Step("publish", environ(tmp_path, registry) | {"KAITO_REGISTRY_AUTH": str(secret)}, Progress("publish"))
    pushing = asyncio.create_task(asyncio.to_thread(publish, step))
    said = await wait_until(step.progress, state="Waiting", reason=reason)
    assert said["hint"]
    assert "wrong" not in said["message"]
    secret.write_bytes((tmp_path / "registry" / "config.json").read_bytes())
    done = await asyncio.wait_for(pushing, 20)
    assert done["digest"].startswith("sha256:")
    assert step.progress.snapshot()["state"] == "Running"


async def test_an_unreachable_registry_is_waited_for_until_patience_ends(output: Path, tmp_path: Path) -> None:
    clock = iter(range(0, 10_000, 40))
    variables = {
        "KAITO_OUTPUT_DIR": str(output),
        "KAITO_OUTPUT_IMAGE": f"127.0.0.1:{free_port()}/x:1",
        "KAITO_PUSH_RETRY_SECONDS": "0.001",
        "KAITO_PUSH_PATIENCE_SECONDS": "30",
    }
    step = Step("publish", variables, Progress("publish"), clock=lambda: next(clock))
    with pytest.raises(StepError) as caught:
        await asyncio.to_thread(publish, step)
    assert caught.value.reason == "RegistryUnreachable"


async def test_a_volume_is_sealed(registry: Registry, output: Path, tmp_path: Path) -> None:
    variables = environ(tmp_path, registry)
    del variables["KAITO_OUTPUT_IMAGE"]
    assert await run("publish", publish, variables) == 0
    manifest = json.loads((output / "manifest.json").read_text())
    assert set(manifest["files"]) == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert words(tmp_path)["evalLoss"] == 0.5


async def test_without_an_adapter_it_says_so(registry: Registry, output: Path, tmp_path: Path) -> None:
    (output / "adapter" / "adapter_model.safetensors").unlink()
    assert await run("publish", publish, environ(tmp_path, registry)) == 1
    assert words(tmp_path)["reason"] == "AdapterMissing"


async def test_a_wrong_reference_ends_it(registry: Registry, output: Path, tmp_path: Path) -> None:
    variables = environ(tmp_path, registry) | {"KAITO_OUTPUT_IMAGE": "REG/UPPER:1"}
    assert await run("publish", publish, variables) == 2
    assert words(tmp_path)["reason"] == "ImageInvalid"


@pytest.mark.parametrize(
    ("files", "words_of_it"),
    [
        ({"data/other": b"x"}, "has no /data/adapter_config.json"),
        ({"data/adapter_config.json": b"{}"}, "has no /data/adapter_model.safetensors"),
        ({"data/adapter_config.json": b"{", "data/adapter_model.safetensors": b"x"}, "is not JSON"),
        ({"data/adapter_config.json": b"{}", "data/adapter_model.safetensors": b"x"}, "no peft_type"),
    ],
)
async def test_images_that_are_no_adapters(
    files: dict[str, bytes], words_of_it: str, registry: Registry, tmp_path: Path
) -> None:
    paths = {}
    for index, (name, content) in enumerate(files.items()):
        paths[name] = tmp_path / str(index)
        paths[name].write_bytes(content)
    auth = tmp_path / "registry" / "config.json"
    async with Session(DockerConfig(auth)) as session:
        await push_image(RegistryClient(session), parse_reference(f"{registry.name}/x:1"), paths)
    variables = environ(tmp_path, registry) | {
        "KAITO_ADAPTER_IMAGE": f"{registry.name}/x:1",
        "KAITO_ADAPTER_DIR": str(tmp_path / "a"),
    }
    assert await run("adapter", fetch_adapter, variables) == 2
    assert words(tmp_path)["reason"] == "AdapterInvalid"
    assert words_of_it in words(tmp_path)["message"]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("attempt", "pause"), [(0, 2), (1, 4), (4, 32), (5, 60), (500, 60)])
def test_pauses_grow_and_stop_growing(attempt: int, pause: float) -> None:
    assert Patience().pause(attempt, 0.0) == pause


ADAPTER_FILES = {"adapter_config.json": b'{"peft_type": "LORA"}', "adapter_model.safetensors": b"weights"}


def volume(tmp_path: Path, folder: str, files: dict[str, bytes]) -> dict[str, str]:
    """A volume with `files` in its `folder`, and the environment of a step that reads it."""
    source = tmp_path / "volume"
    (source / folder).mkdir(parents=True, exist_ok=True)
    (source / "lost+found").mkdir(exist_ok=True)
    for name, content in files.items():
        (source / folder / name).write_bytes(content)
    return {
        "KAITO_HOST": "127.0.0.1",
        "KAITO_PORT": "0",
        "KAITO_TERMINATION_LOG": str(tmp_path / "last"),
        "KAITO_ADAPTER_SOURCE_DIR": str(source),
        "KAITO_ADAPTER_DIR": str(tmp_path / "adapters" / "a"),
    }


@pytest.mark.parametrize("folder", ["", "data", "adapter"])
async def test_an_adapter_of_a_volume(folder: str, tmp_path: Path) -> None:
    variables = volume(tmp_path, folder, ADAPTER_FILES)
    assert await run("adapter", fetch_adapter, variables) == 0
    made = tmp_path / "adapters" / "a"
    assert {name: (made / name).read_bytes() for name in ADAPTER_FILES} == ADAPTER_FILES
    assert words(tmp_path)["digest"].startswith("sha256:")
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["a"], "nothing half made is left"
    before = (made / "adapter_config.json").stat().st_mtime_ns
    assert await run("adapter", fetch_adapter, variables) == 0
    assert (made / "adapter_config.json").stat().st_mtime_ns == before, "the same adapter is left as it is"
    volume(tmp_path, folder, {"adapter_model.safetensors": b"others"})
    assert await run("adapter", fetch_adapter, variables) == 0
    assert (made / "adapter_model.safetensors").read_bytes() == b"others"


async def test_what_was_published_to_a_volume_is_an_adapter(registry: Registry, output: Path, tmp_path: Path) -> None:
    variables = environ(tmp_path, registry)
    del variables["KAITO_OUTPUT_IMAGE"]
    assert await run("publish", publish, variables) == 0
    for source in (output, output / "adapter"):  # the volume, or the folder that the workspace controller names
        variables |= {"KAITO_ADAPTER_SOURCE_DIR": str(source), "KAITO_ADAPTER_DIR": str(tmp_path / "a")}
        assert await run("adapter", fetch_adapter, variables) == 0
        weights = (tmp_path / "a" / "adapter_model.safetensors").read_bytes()
        assert weights == (output / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("files", "reason", "words_of_it"),
    [
        ({}, "AdapterNotFound", "no adapter is in the folder volume"),
        ({"adapter_config.json": b"{}"}, "AdapterInvalid", "has no /volume/adapter_model.safetensors"),
        ({**ADAPTER_FILES, "adapter_config.json": b"{"}, "AdapterInvalid", "is not JSON"),
        ({**ADAPTER_FILES, "adapter_config.json": b"[]"}, "AdapterInvalid", "no peft_type"),
    ],
    ids=["empty", "no weights", "broken config", "no config"],
)
async def test_volumes_without_an_adapter(
    files: dict[str, bytes], reason: str, words_of_it: str, tmp_path: Path
) -> None:
    assert await run("adapter", fetch_adapter, volume(tmp_path, "", files)) == 2
    assert words(tmp_path)["reason"] == reason
    assert words_of_it in words(tmp_path)["message"]
    assert not (tmp_path / "adapters" / "a").exists()


async def test_an_adapter_from_nowhere(tmp_path: Path) -> None:
    variables = volume(tmp_path, "", {})
    del variables["KAITO_ADAPTER_SOURCE_DIR"]
    assert await run("adapter", fetch_adapter, variables) == 2
    assert "KAITO_ADAPTER_SOURCE_DIR" in words(tmp_path)["message"]
