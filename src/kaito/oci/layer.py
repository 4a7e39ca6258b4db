"""Layers: deterministic tar files out of folders, and folders out of the tar files of strangers.

Writing: sorted names, fixed times, owners and modes, so that the same content always has the same digest. Reading: an
entry is unpacked only inside the target folder, and a layer may hold only so many entries and bytes: a layer is input
from a stranger (a hundred kilobytes of gzip can become a hundred gigabytes).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from kaito.oci.digest import CHUNK, DOCKER_LAYER, LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD
from kaito.oci.errors import BadImage

WHITEOUT = ".wh."
GZIP_LEVEL = 6


@dataclass(frozen=True)
class Limits:
    """What one image may unpack to."""

    entries: int = 100_000
    size: int = 1 << 40  # bytes of all files together


@dataclass(frozen=True)
class Layer:
    """A layer file on disk. `digest` names the compressed bytes, `diff_id` the tar inside."""

    path: Path
    digest: str
    diff_id: str
    size: int
    media_type: str = LAYER_TAR_GZIP


def write_layer(files: Mapping[str, Path], target: Path, compression: int = GZIP_LEVEL) -> Layer:
    """Write `files` (name inside the image -> file on disk) as a gzipped tar, in constant memory.

    `compression` is gzip's level, 0 (stored) to 9.
    """
    compressed = hashlib.sha256()
    plain = hashlib.sha256()
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", compression, cast(IO[bytes], _Hashing(raw, compressed)), mtime=0) as packed,
        tarfile.open(
            fileobj=cast(IO[bytes], _Hashing(cast(IO[bytes], packed), plain)), mode="w|", format=tarfile.PAX_FORMAT
        ) as tar,
    ):
        for folder in _folders(files):
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o755, 0))
        for name in sorted(files):
            with files[name].open("rb") as file:
                tar.addfile(_entry(name, tarfile.REGTYPE, 0o644, os.fstat(file.fileno()).st_size), file)
    return Layer(
        target, f"sha256:{compressed.hexdigest()}", f"sha256:{plain.hexdigest()}", target.stat().st_size, LAYER_TAR_GZIP
    )


def unpack_layers(
    layers: Iterable[tuple[Path, str]],
    target: Path,
    limits: Limits | None = None,
    wants: Callable[[PurePosixPath], bool] | None = None,
) -> None:
    """Unpack layers (file, media type) over each other into the folder `target`. Raises BadImage.

    With `wants`, entries that it does not want are passed over, whatever they are: an image may hold a whole system.
    """
    budget = _Budget(limits or Limits())
    target.mkdir(parents=True, exist_ok=True)
    for path, media_type in layers:
        try:
            with _open(path, media_type) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if wants is not None and not wants(PurePosixPath(member.name)):
                        continue
                    budget.take(member)
                    _unpack(tar, member, target)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BadImage(f"layer {path.name} is not a readable tar file: {error}") from error


class _Budget:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries = 0
        self._size = 0

    def take(self, member: tarfile.TarInfo) -> None:
        self._entries += 1
        self._size += member.size if member.isreg() else 0
        if self._entries > self._limits.entries:
            raise BadImage(f"the image has more than {self._limits.entries} files")
        if self._size > self._limits.size:
            raise BadImage(f"the image unpacks to more than {self._limits.size} bytes")


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise BadImage(f"the image holds {member.name!r}, which lies outside its folder")
    parts = [part for part in name.parts if part != "."]
    if not parts:
        return
    place = _inside(target, parts, member.name)
    if parts[-1].startswith(WHITEOUT):
        _white_out(place)
    elif member.isdir():
        place.mkdir(parents=True, exist_ok=True)
    elif member.isreg():
        _write_file(tar, member, place)
    elif member.issym() or member.islnk():
        _write_link(member, place, target)
    elif not (member.ischr() or member.isblk() or member.isfifo()):
        raise BadImage(f"the image holds {member.name!r} of the unknown type {member.type!r}")
    # Devices and pipes are left out: a model or an adapter needs none, and making them needs root.


def _inside(target: Path, parts: list[str], name: str) -> Path:
    """The place of an entry; no folder on the way may be a link, or writing would follow it out of the target."""
    place = target
    for part in parts[:-1]:
        place = place / part
        if place.is_symlink():
            raise BadImage(f"the image holds {name!r}, which leads through a link")
    return target.joinpath(*parts)


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove(place)
    source = tar.extractfile(member)
    assert source is not None
    with place.open("xb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    place.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH | (member.mode & 0o111))


def _write_link(member: tarfile.TarInfo, place: Path, target: Path) -> None:
    """Links whose end stays inside the target; others are refused."""
    base = target if member.islnk() else place.parent
    link = PurePosixPath(member.linkname)
    end = Path(os.path.normpath(base / link))
    if link.is_absolute() or not end.is_relative_to(target):
        raise BadImage(f"the image holds the link {member.name!r} to {member.linkname!r}, outside its folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove(place)
    if member.issym():
        place.symlink_to(member.linkname)
    elif end.is_symlink() or not end.is_file():
        raise BadImage(f"the image holds the hard link {member.name!r} to {member.linkname!r}, which is no file of it")
    else:
        os.link(end, place)


def _white_out(place: Path) -> None:
    """A layer's way of removing what a lower layer brought (image specification, whiteouts)."""
    if place.name == WHITEOUT + WHITEOUT + ".opq":
        for child in place.parent.iterdir() if place.parent.is_dir() else ():
            _remove(child)
    else:
        _remove(place.with_name(place.name[len(WHITEOUT) :]))


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _open(path: Path, media_type: str) -> IO[bytes]:
    if media_type in (LAYER_TAR_GZIP, DOCKER_LAYER):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if media_type == LAYER_TAR:
        return path.open("rb")
    if media_type == LAYER_TAR_ZSTD:
        return _open_zstd(path)
    raise BadImage(f"the image has a layer of the type {media_type}, which is not a tar file")


def _open_zstd(path: Path) -> IO[bytes]:
    try:
        import pyarrow
    except ImportError as error:
        raise BadImage("the image has a zstd layer, and pyarrow, which reads it, is not installed") from error
    return cast(IO[bytes], pyarrow.input_stream(str(path), compression="zstd"))


def _folders(files: Mapping[str, Path]) -> list[str]:
    return sorted({str(parent) for name in files for parent in PurePosixPath(name).parents if str(parent) != "."})


def _entry(name: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, 0
    return entry


class _Hashing:
    """A file to write to that hashes what passes."""

    def __init__(self, file: IO[bytes], digest: hashlib._Hash) -> None:
        self._file = file
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
