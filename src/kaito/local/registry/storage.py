"""How the registry keeps its content: files under one folder, true after `kill -9` at any moment.

    blobs/sha256/ab/abcd...                            content, named by its digest; written beside and renamed
    uploads/<uuid>                                     what a client has sent of a blob so far
    repositories/<name>/_blobs/<digest>                marks: this repository has that blob
    repositories/<name>/_manifests/<digest>            the manifest's media type
    repositories/<name>/_tags/<tag>                    the digest that the tag names
    repositories/<name>/_referrers/<subject>/<digest>  the descriptor of a manifest that refers to `subject`

A component of a repository's name starts with a letter or a digit, so the names with `_` are free for us. A mark is
written only after its content, so that no crash leaves a name without what it names.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import uuid
from pathlib import Path
from typing import Any

NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Storage:
    """All names must have been checked against NAME, TAG and DIGEST: they become paths."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._uploads = root / "uploads"
        for folder in (self._uploads, root / "blobs" / "sha256", root / "repositories"):
            folder.mkdir(parents=True, exist_ok=True)

    # Blobs

    def blob(self, digest: str) -> Path:
        value = digest.partition(":")[2]
        return self._root / "blobs" / "sha256" / value[:2] / value

    def has_blob(self, name: str, digest: str) -> bool:
        return self._mark(name, "_blobs", digest).exists() and self.blob(digest).exists()

    def link_blob(self, name: str, digest: str) -> None:
        _write(self._mark(name, "_blobs", digest), b"")

    def unlink_blob(self, name: str, digest: str) -> None:
        """Take the blob from this repository; its content goes when no repository has it."""
        self._mark(name, "_blobs", digest).unlink(missing_ok=True)
        self._collect(digest)

    # Uploads

    def start_upload(self) -> str:
        identity = str(uuid.uuid4())
        (self._uploads / identity).touch()
        return identity

    def upload(self, identity: str) -> Path | None:
        try:
            path = self._uploads / str(uuid.UUID(identity))
        except ValueError:
            return None
        return path if path.exists() else None

    def finish_upload(self, name: str, path: Path, digest: str) -> bool:
        """Make the uploaded file a blob of the repository; False when its content has another digest."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return False
        target = self.blob(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        _sync_folder(target.parent)
        self.link_blob(name, digest)
        return True

    # Manifests

    def put_manifest(self, name: str, tag: str, content: bytes, media_type: str) -> str:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        _write(self.blob(digest), content)
        _write(self._mark(name, "_manifests", digest), media_type.encode())
        if tag:
            _write(self._folder(name, "_tags") / tag, digest.encode())
        return digest

    def manifest(self, name: str, digest: str) -> tuple[bytes, str] | None:
        """The content and its media type."""
        try:
            media_type = self._mark(name, "_manifests", digest).read_text()
            return self.blob(digest).read_bytes(), media_type
        except FileNotFoundError:
            return None

    def resolve(self, name: str, tag: str) -> str | None:
        try:
            return (self._folder(name, "_tags") / tag).read_text()
        except FileNotFoundError:
            return None

    def delete_manifest(self, name: str, digest: str, subject: str = "") -> bool:
        mark = self._mark(name, "_manifests", digest)
        if not mark.exists():
            return False
        for tag in self.tags(name):
            if self.resolve(name, tag) == digest:
                self.delete_tag(name, tag)
        if subject:
            self._mark(name, f"_referrers/{_file(subject)}", digest).unlink(missing_ok=True)
        mark.unlink()
        self._collect(digest)
        return True

    def delete_tag(self, name: str, tag: str) -> bool:
        path = self._folder(name, "_tags") / tag
        existed = path.exists()
        path.unlink(missing_ok=True)
        return existed

    # Listings

    def exists(self, name: str) -> bool:
        return (self._root / "repositories" / name).is_dir()

    def tags(self, name: str) -> list[str]:
        return _names(self._folder(name, "_tags"))

    def repositories(self) -> list[str]:
        base = self._root / "repositories"
        found = {str(mark.parent.relative_to(base)) for mark in base.glob("**/_manifests") if _names(mark)}
        return sorted(found)

    def add_referrer(self, name: str, subject: str, descriptor: dict[str, Any]) -> None:
        mark = self._mark(name, f"_referrers/{_file(subject)}", str(descriptor["digest"]))
        _write(mark, json.dumps(descriptor, sort_keys=True).encode())

    def referrers(self, name: str, subject: str) -> list[dict[str, Any]]:
        folder = self._folder(name, f"_referrers/{_file(subject)}")
        return [json.loads((folder / one).read_bytes()) for one in _names(folder)]

    def _collect(self, digest: str) -> None:
        marks = (self._root / "repositories").glob(f"**/{_file(digest)}")
        if not any(mark.parent.name in ("_blobs", "_manifests") for mark in marks):
            self.blob(digest).unlink(missing_ok=True)

    def _folder(self, name: str, kind: str) -> Path:
        return self._root / "repositories" / name / kind

    def _mark(self, name: str, kind: str, digest: str) -> Path:
        return self._folder(name, kind) / _file(digest)


def _file(digest: str) -> str:
    return digest.replace(":", "-", 1)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir() if not one.name.startswith(".new-"))
    except FileNotFoundError:
        return []


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".new-{secrets.token_hex(8)}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """A rename is durable once its folder is written out."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
