"""Blobs, manifests, tags and referrers of a registry, in constant memory.

Uploads follow what docker itself does, because every registry takes that: small blobs in one PUT, larger ones in PATCH
chunks that resume where the registry says it stands. Downloads resume by range and are checked against their digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp

from kaito.oci.digest import CHUNK, DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor, digest_of
from kaito.oci.errors import BadImage, DigestMismatch, NotFound, Refused, RegistryError, Unauthorized, Unreachable
from kaito.oci.reference import Reference
from kaito.oci.session import Session

MAX_MANIFEST = 4 << 20  # bytes; the specification's own limit
UPLOAD_CHUNK = 32 << 20  # bytes; a larger blob goes in several PATCH requests
ACCEPT = ", ".join([MANIFEST, DOCKER_MANIFEST, INDEX, DOCKER_LIST])

Moved = Callable[[int], None]  # told of bytes moved since the last call


def ignore_moved(count: int) -> None:
    return None


class RegistryClient:
    """Speaks for one `Session` to any registry; each call names the repository by its Reference."""

    def __init__(self, session: Session, upload_chunk: int = UPLOAD_CHUNK) -> None:
        self._session = session
        self._chunk = upload_chunk

    async def has_blob(self, reference: Reference, digest: str, scope: str = "pull") -> bool:
        url = self._session.url(reference, f"blobs/{digest}")
        async with self._session.request("HEAD", url, reference, scope=scope, accept=frozenset({200, 404})) as answer:
            return answer.status == 200

    async def push_blob(
        self, reference: Reference, path: Path, digest: str, *, mount_from: str = "", moved: Moved = ignore_moved
    ) -> None:
        """Upload a file unless the repository has it. `mount_from`: a repository of this registry that has it."""
        if await self.has_blob(reference, digest, "pull,push"):
            moved(path.stat().st_size)
            return
        trouble: RegistryError | None = None
        for _ in range(self._session.retry.tries):  # an upload whose session is lost starts again from its beginning
            location = await self._start_upload(reference, digest, mount_from)
            if not location:
                moved(path.stat().st_size)
                return
            try:
                await self._upload(reference, location, path, digest, moved)
            except NotFound as error:
                trouble = error
            except Refused as error:
                if error.status != 416:  # the registry stands elsewhere in this upload than we believe
                    raise
                trouble = error
            else:
                return
        assert trouble is not None
        raise trouble

    async def push_bytes(self, reference: Reference, content: bytes) -> str:
        """Upload small content, such as a config, and return its digest."""
        digest = digest_of(content)
        if not await self.has_blob(reference, digest, "pull,push"):
            location = await self._start_upload(reference, digest, "")
            if location:
                await self._finish(reference, location, digest, lambda: content, len(content))
        return digest

    async def pull_blob(self, reference: Reference, blob: Descriptor, path: Path, moved: Moved = ignore_moved) -> None:
        """Download into `path`, resuming what is there, and check size and digest. Raises DigestMismatch."""
        digest, size = str(blob["digest"]), int(blob["size"])
        url = self._session.url(reference, f"blobs/{digest}")
        for attempt in range(self._session.retry.tries):
            if attempt:
                await self._session.sleep(self._session.retry.pause(attempt - 1, self._session.chance()))
            have = path.stat().st_size if path.exists() else 0
            if have < size:
                try:
                    await self._download(reference, url, path, have, size, moved)
                except Unreachable:
                    if attempt + 1 == self._session.retry.tries:
                        raise
                    continue
            if _file_digest(path, digest) == digest:
                return
            path.unlink()
        raise DigestMismatch(reference.registry, f"a blob of {reference} does not match its digest {digest}")

    async def pull_bytes(self, reference: Reference, blob: Descriptor, limit: int = MAX_MANIFEST) -> bytes:
        """Small content by its descriptor, checked."""
        digest = str(blob["digest"])
        async with self._session.request("GET", self._session.url(reference, f"blobs/{digest}"), reference) as answer:
            content = await _read(answer, limit, reference)
        if digest_of(content) != digest:
            raise DigestMismatch(reference.registry, f"a blob of {reference} does not match its digest {digest}")
        return content

    async def push_manifest(self, reference: Reference, content: bytes, media_type: str = MANIFEST) -> str:
        """Put a manifest under the tag, or under its digest when there is none; returns its digest."""
        digest = digest_of(content)
        url = self._session.url(reference, f"manifests/{reference.tag or digest}")
        async with self._session.request(
            "PUT", url, reference, scope="pull,push", headers={"Content-Type": media_type}, body=content,
            accept=frozenset({200, 201, 202}),
        ) as answer:  # fmt: skip
            said = answer.headers.get("Docker-Content-Digest", digest)
        if said != digest:
            raise DigestMismatch(reference.registry, f"registry {reference.registry} stored {said}, not {digest}")
        return digest

    async def pull_manifest(self, reference: Reference) -> tuple[str, bytes]:
        """The manifest's digest and its bytes; they match each other, and the reference's digest where it has one."""
        url = self._session.url(reference, f"manifests/{reference.target}")
        async with self._session.request("GET", url, reference, headers={"Accept": ACCEPT}) as answer:
            content = await _read(answer, MAX_MANIFEST, reference)
        digest = digest_of(content)
        if reference.digest and digest != reference.digest:
            raise DigestMismatch(reference.registry, f"the manifest of {reference} has the digest {digest}")
        return digest, content

    async def delete_manifest(self, reference: Reference, digest: str) -> bool:
        """Remove a manifest and the tags that point to it; False where the registry does not let clients delete."""
        url = self._session.url(reference, f"manifests/{digest}")
        accept = frozenset({200, 202, 404, 405})
        try:
            async with self._session.request("DELETE", url, reference, scope="delete", accept=accept) as answer:
                return answer.status in (200, 202)
        except Unauthorized:
            return False

    async def tags(self, reference: Reference) -> list[str]:
        """All tags of the repository; follows the pages."""
        url: str = self._session.url(reference, "tags/list")
        found: list[str] = []
        while url:
            async with self._session.request("GET", url, reference) as answer:
                content = _decode(await _read(answer, MAX_MANIFEST, reference), reference)
                found += content.get("tags") or []
                following = answer.links.get("next")
            url = urljoin(url, str(following["url"])) if following else ""
        return found

    async def referrers(self, reference: Reference, digest: str) -> list[Descriptor]:
        """What refers to the manifest `digest`; for a registry without that API, the specification's fallback tag."""
        url = self._session.url(reference, f"referrers/{digest}")
        async with self._session.request("GET", url, reference, accept=frozenset({200, 404})) as answer:
            if answer.status == 200:
                return list(_decode(await _read(answer, MAX_MANIFEST, reference), reference).get("manifests") or [])
        try:
            _, content = await self.pull_manifest(fallback_tag(reference, digest))
        except NotFound:
            return []
        return list(_decode(content, reference).get("manifests") or [])

    async def has_referrers_api(self, reference: Reference, digest: str) -> bool:
        url = self._session.url(reference, f"referrers/{digest}")
        async with self._session.request("GET", url, reference, accept=frozenset({200, 404})) as answer:
            return answer.status == 200

    async def _start_upload(self, reference: Reference, digest: str, mount_from: str) -> str:
        """The upload's URL, or "" when the registry mounted the blob from another repository."""
        query = "?" + urlencode({"mount": digest, "from": mount_from}) if mount_from else ""
        url = self._session.url(reference, "blobs/uploads/") + query
        async with self._session.request(
            "POST", url, reference, scope="pull,push", headers={"Content-Length": "0"}, accept=frozenset({201, 202})
        ) as answer:
            if answer.status == 201:
                return ""
            return _location(answer, url)

    async def _upload(self, reference: Reference, location: str, path: Path, digest: str, moved: Moved) -> None:
        size = path.stat().st_size
        if size <= self._chunk:
            await self._finish(reference, location, digest, lambda: _slice(path, 0, size), size)
            moved(size)
            return
        offset, failures = 0, 0
        while offset < size:
            end = min(size, offset + self._chunk)
            try:
                location = await self._patch(reference, location, path, offset, end)
                moved(end - offset)
                offset, failures = end, 0
            except Unreachable:
                failures += 1
                if failures >= self._session.retry.tries:
                    raise
                await self._session.sleep(self._session.retry.pause(failures - 1, self._session.chance()))
                location, offset = await self._where(reference, location)
        await self._finish(reference, location, digest, None, 0)

    async def _patch(self, reference: Reference, location: str, path: Path, start: int, end: int) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Content-Range": f"{start}-{end - 1}",
        }
        async with self._session.request(
            "PATCH", location, reference, scope="pull,push", headers=headers, accept=frozenset({202, 204}), tries=1,
            body=lambda: _slice(path, start, end),
        ) as answer:  # fmt: skip
            return _location(answer, location)

    async def _where(self, reference: Reference, location: str) -> tuple[str, int]:
        """Where an interrupted upload stands: its URL and the bytes that the registry holds."""
        async with self._session.request(
            "GET", location, reference, scope="pull,push", accept=frozenset({204})
        ) as answer:
            last = answer.headers.get("Range", "").partition("-")[2]
            offset = int(last) + 1 if last.isdecimal() and last != "0" else 0
            return _location(answer, location), offset

    async def _finish(
        self, reference: Reference, location: str, digest: str, body: Callable[[], Any] | None, size: int
    ) -> None:
        url = location + ("&" if urlsplit(location).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        async with self._session.request(
            "PUT", url, reference, scope="pull,push", headers=headers, body=body, accept=frozenset({201, 204})
        ):
            return

    async def _download(self, reference: Reference, url: str, path: Path, have: int, size: int, moved: Moved) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self._session.request(
            "GET", url, reference, headers=headers, accept=frozenset({200, 206})
        ) as answer:
            resumed = answer.status == 206 and have
            with path.open("ab" if resumed else "wb") as file:
                written = have if resumed else 0
                async for chunk in answer.content.iter_chunked(CHUNK):
                    written += len(chunk)
                    if written > size:
                        raise DigestMismatch(reference.registry, f"a blob of {reference} is longer than announced")
                    file.write(chunk)
                    moved(len(chunk))


def fallback_tag(reference: Reference, digest: str) -> Reference:
    """The tag under which referrers are listed where the registry has no referrers API (specification 1.1)."""
    return Reference(reference.registry, reference.repository, digest.replace(":", "-", 1))


def _location(answer: aiohttp.ClientResponse, url: str) -> str:
    return urljoin(url, answer.headers.get("Location", url))


async def _slice(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            chunk = file.read(min(CHUNK, end - start))
            if not chunk:
                raise BadImage(f"{path.name} became shorter while it was uploaded")
            start += len(chunk)
            yield chunk


async def _read(answer: aiohttp.ClientResponse, limit: int, reference: Reference) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK):
        content += chunk
        if len(content) > limit:
            raise BadImage(f"an answer of {reference.registry} for {reference} is over {limit} bytes")
    return bytes(content)


def _decode(content: bytes, reference: Reference) -> dict[str, Any]:
    try:
        decoded = json.loads(content)
    except ValueError as error:
        raise BadImage(f"the answer of {reference.registry} for {reference} is not JSON") from error
    if not isinstance(decoded, dict):
        raise BadImage(f"the answer of {reference.registry} for {reference} is not an object")
    return decoded


def _file_digest(path: Path, like: str) -> str:
    algorithm = like.partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        raise BadImage(f"digest {like!r} uses an algorithm that is not known here")
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
