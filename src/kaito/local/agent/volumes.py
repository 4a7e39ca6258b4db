"""The folders behind a pod's volumes.

Volumes from the API are swapped as the kubelet swaps them: files lie in a folder of their own, `..data` is a link to it
that is renamed over the old one, and the names people open are links through `..data`. A reader sees all old files or
all new.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kaito.local.agent.configuration import Configuration
from kaito.local.agent.environment import PodFacts
from kaito.local.agent.errors import ContainerRefused
from kaito.local.agent.projection import File, Files, is_projected, project

DATA_LINK = "..data"
FAILED_MOUNT = "FailedMount"


class Volumes:
    """The volumes of one pod: `folder` holds those of its own, `claims` those that outlive it."""

    def __init__(self, folder: Path, claims: Path) -> None:
        self._folder = folder
        self._claims = claims

    def set_up(self, facts: PodFacts, configuration: Configuration) -> dict[str, Path]:
        """Make or refresh every volume. Returns real folders by name. Raises ContainerRefused. Idempotent."""
        return {
            volume["name"]: self._set_up(volume, facts, configuration)
            for volume in facts.pod["spec"].get("volumes") or ()
        }

    def _set_up(self, volume: dict[str, Any], facts: PodFacts, configuration: Configuration) -> Path:
        own = self._folder / str(volume["name"])
        if is_projected(volume):
            write_files(own, project(volume, facts, configuration))
            return own
        if volume.get("hostPath") is not None:
            return _host_path(volume["hostPath"])
        if volume.get("persistentVolumeClaim") is not None:
            claim = str(volume["persistentVolumeClaim"]["claimName"])
            return _made(claim_folder(self._claims, configuration.namespace, claim))
        if volume.get("emptyDir") is not None or set(volume) == {"name"}:
            return _made(own)
        kind = next(key for key in volume if key != "name")
        message = f"volume {volume['name']!r}: {kind} is not supported on one machine; use hostPath or a claim"
        raise ContainerRefused(FAILED_MOUNT, message)


def claim_folder(claims: Path, namespace: str, name: str) -> Path:
    return claims / namespace / name


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _host_path(source: dict[str, Any]) -> Path:
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True)
    checks = {"Directory": path.is_dir, "File": path.is_file, "Socket": path.is_socket}
    if not checks.get(kind, path.exists)():
        raise ContainerRefused(FAILED_MOUNT, f"hostPath {path} is not there, or is no {kind or 'file or folder'}")
    return path


def write_files(folder: Path, files: Files) -> bool:
    """Make `folder` hold exactly these files, in one step for its readers. Returns whether anything changed."""
    folder.mkdir(parents=True, exist_ok=True)
    current = folder / DATA_LINK
    if current.is_symlink() and _read(current) == files:
        return False
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o600)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    old = current.readlink() if current.is_symlink() else None
    staged = folder / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        staged.unlink()
    staged.symlink_to(fresh.name)
    staged.replace(current)
    _link_names(folder, {path.partition("/")[0] for path in files})
    if old is not None:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _link_names(folder: Path, names: set[str]) -> None:
    for name in names:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA_LINK}/{name}")
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()


def _read(data: Path) -> Files:
    found: Files = {}
    real = data.resolve()
    for path in real.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(real))] = File(path.read_bytes(), path.stat().st_mode & 0o7777)
    return found
