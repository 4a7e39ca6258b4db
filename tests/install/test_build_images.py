"""What `make images` runs, with each engine, and that the Dockerfiles name what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import kaito
from tests.install.rootfs import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "build_images.py"
DOCKERFILES = sorted((REPOSITORY / "docker").glob("*/Dockerfile"))


def build_images(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={"PATH": path})


@pytest.mark.parametrize(("engine", "verb"), [("docker", "build"), ("podman", "build"), ("buildah", "bud")])
def test_every_engine_is_told_the_same(engine: str, verb: str) -> None:
    done = build_images("--dry-run", "--engine", engine, "--registry", "registry.example.com/team/")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[engine, verb]] * 3
    tags = [re.findall(r"-t (\S+)", line)[0] for line in lines]
    name, version = "registry.example.com/team/kaito", kaito.__version__
    assert tags == [f"{name}/operator:{version}", f"{name}/runtime:{version}", f"{name}/runtime:{version}-cpu"]


def test_without_an_engine_it_says_so() -> None:
    done = build_images("operator")
    assert done.returncode == 1
    assert "none of docker, podman, buildah is installed" in done.stderr


def test_an_unknown_image_is_named() -> None:
    done = build_images("--dry-run", "--engine", "docker", "operater")
    assert done.returncode == 2
    assert "no image is called operater" in done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_is_copied_is_there_and_not_ignored(dockerfile: Path) -> None:
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE)
    sources = [source for words in copied for source in words.split()[:-1]]
    assert sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert source.split("/")[0] in allowed, source


def test_the_environments_of_the_runtime_share_one_torch() -> None:
    """vLLM's is below ours; with another version there, ours would hold a second one of some gigabytes."""
    pins = {
        path: re.findall(r"^torch==(.+)$", path.read_text(), re.MULTILINE)
        for path in (
            REPOSITORY / "constraints.txt",
            REPOSITORY / "docker" / "runtime" / "vllm-constraints.txt",
        )
    }
    assert len({tuple(found) for found in pins.values()}) == 1, pins
