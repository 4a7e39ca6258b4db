"""A root file system as the operator's image has it, made by the image's own steps without a container engine.

In place of the base image stands this machine's Python with the libraries that it loads, at the same paths. The steps
write to /opt/kaito, as in the image: here to a layer over /opt that nobody else sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "docker", "src")
DOCKERFILE = REPOSITORY / "docker" / "operator" / "Dockerfile"
TARGET = Path("/opt/kaito")
NOT_IN_SLIM = ("site-packages", "test", "idlelib", "turtledemo", "ensurepip", "tkinter", "config-*", "__pycache__")
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")

BUILD = """
set -e
mount -t overlay overlay -o "lowerdir=/opt,upperdir=$1,workdir=$2" /opt
cd "$3"
exec sh docker/install.sh /opt/kaito azure
"""
RUN = """
set -e
root=$1; user=$2; chroot=$3; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -o remount,ro,bind "$root"
exec "$chroot" --userspec="$user" "$root" "$@"
"""


def require_mounts() -> None:
    """Skip where this user may not mount; that takes root, and a kernel that lets containers do it."""
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        pytest.skip("unshare (util-linux) is not installed")
    if done.returncode:
        pytest.skip(f"a file system of its own takes the right to mount: {done.stderr.strip()}")


def make_root(folder: Path) -> Path:
    """The root, in `folder`. Takes as long as pip needs."""
    root = folder / "root"
    for name in ("proc", "tmp", "etc", "opt", "dev"):
        (root / name).mkdir(parents=True)
    shutil.move(_build(folder), root / "opt" / "kaito")
    _copy_python(root)
    return root


def _build(folder: Path) -> Path:
    """What the Dockerfile's first stage does: its COPY, and its RUN."""
    source, upper, work = folder / "source", folder / "upper", folder / "work"
    for name in SOURCES:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy2
        source.mkdir(exist_ok=True)
        copy(REPOSITORY / name, source / name)
    upper.mkdir()
    work.mkdir()
    command = ["unshare", "--mount", "sh", "-c", BUILD, "build", str(upper), str(work), str(source)]
    environment = {**os.environ, "PYTHON": sys._base_executable}  # type: ignore[attr-defined]  # of every venv
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return upper / "kaito"


def _copy_python(root: Path) -> None:
    prefix = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library, ignored = prefix / "lib" / version, shutil.ignore_patterns(*NOT_IN_SLIM)
    shutil.copytree(library, root / library.relative_to("/"), ignore=ignored)
    binary = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    for name in {binary, binary.parent / "python3", binary.parent / "python", binary.parent / version}:
        if name.exists():
            _copy(name, root)
    compiled = [*library.glob("lib-dynload/*.so"), *(root / "opt").rglob("*.so")]
    for path in _libraries([binary, *compiled]):
        _copy(path, root)


def _copy(path: Path, root: Path) -> None:
    place = root / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        shutil.copy2(path.resolve(), place)


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    """What they load that no wheel brings along."""
    done = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False, timeout=60)
    found = {Path(one) for one in _LIBRARY.findall(done.stdout)}
    return {path for path in found if "/opt/kaito/" not in str(path)}


def image_environment() -> dict[str, str]:
    """ENV of the Dockerfile's last stage."""
    last = DOCKERFILE.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    (line,) = re.findall(r"^ENV (.+)$", last, re.MULTILINE)
    return dict(word.split("=", 1) for word in line.split())


def image_user() -> str:
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    return str(user)


def run_in(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As the image's user, on the read-only root, with a fresh /tmp."""
    return subprocess.run(
        command_in(root, *command),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**image_environment(), **variables},
    )


def command_in(root: Path, *command: str) -> list[str]:
    """A mount and a process namespace of its own: what is in it ends with it."""
    unshare, chroot = shutil.which("unshare"), shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert unshare is not None
    assert chroot is not None
    apart = [unshare, "--mount", "--pid", "--fork", "--kill-child"]
    return [*apart, "/bin/sh", "-c", RUN, "run", str(root), image_user(), chroot, *command]
