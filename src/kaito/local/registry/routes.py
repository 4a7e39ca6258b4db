"""The `/v2/` API (OCI distribution specification 1.1): blobs, uploads, manifests, tags, referrers, catalogue.

A repository's name may hold slashes and even words of the API, so one handler takes the path apart from its end.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from kaito.local.registry.answers import answer_error
from kaito.local.registry.storage import DIGEST, NAME, TAG, Storage

CHUNK = 1 << 20  # bytes
MAX_MANIFEST = 4 << 20  # bytes
INDEX = "application/vnd.oci.image.index.v1+json"
_PATH = re.compile(
    r"(?P<name>.+)/(?:(?P<kind>blobs|manifests|referrers)/(?P<ref>[^/]+)"
    r"|blobs/uploads/(?P<upload>[^/]*)|tags/(?P<list>list))"
)

Respond = Callable[[web.Request, str, str], Awaitable[web.StreamResponse]]


class RegistryRoutes:
    """Answers for one `Storage`. Each `_verb_noun` answers one method of one kind: (request, repository, reference)."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._busy: set[str] = set()  # uploads that a request is writing to now
        self._table: dict[tuple[str, str], Respond] = {
            ("blobs", "GET"): self._get_blob,
            ("blobs", "HEAD"): self._get_blob,
            ("blobs", "DELETE"): self._delete_blob,
            ("uploads", "POST"): self._start_upload,
            ("uploads", "GET"): self._show_upload,
            ("uploads", "PATCH"): self._append_upload,
            ("uploads", "PUT"): self._finish_upload,
            ("uploads", "DELETE"): self._cancel_upload,
            ("manifests", "GET"): self._get_manifest,
            ("manifests", "HEAD"): self._get_manifest,
            ("manifests", "PUT"): self._put_manifest,
            ("manifests", "DELETE"): self._delete_manifest,
            ("tags", "GET"): self._list_tags,
            ("referrers", "GET"): self._list_referrers,
        }

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v2", self._base)
        app.router.add_get("/v2/", self._base)
        app.router.add_get("/v2/_catalog", self._catalog)
        app.router.add_route("*", "/v2/{path:.+}", self._dispatch)

    async def _base(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def _catalog(self, request: web.Request) -> web.StreamResponse:
        return _page(request, "/v2/_catalog", "repositories", await asyncio.to_thread(self._storage.repositories), {})

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.fullmatch(request.match_info["path"])
        if match is None:
            return answer_error(404, "UNSUPPORTED", f"no such path: {request.path}")
        if not NAME.fullmatch(match["name"]) or len(match["name"]) > 255:
            return answer_error(400, "NAME_INVALID", f"{match['name']!r} is not a repository name")
        kind = match["kind"] or ("tags" if match["list"] else "uploads")
        respond = self._table.get((kind, request.method))
        if respond is None:
            return answer_error(405, "UNSUPPORTED", f"{request.method} is not for {kind}")
        return await respond(request, match["name"], match["ref"] or match["upload"] or "")

    # Blobs

    async def _get_blob(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        if not DIGEST.fullmatch(digest):
            return answer_error(400, "DIGEST_INVALID", f"{digest!r} is not a sha256 digest")
        if not self._storage.has_blob(name, digest):
            return answer_error(404, "BLOB_UNKNOWN", f"{name} has no blob {digest}")
        headers = {
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
            "Content-Type": "application/octet-stream",
        }
        return web.FileResponse(self._storage.blob(digest), headers=headers, chunk_size=CHUNK)

    async def _delete_blob(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        if not DIGEST.fullmatch(digest) or not self._storage.has_blob(name, digest):
            return answer_error(404, "BLOB_UNKNOWN", f"{name} has no blob {digest}")
        await asyncio.to_thread(self._storage.unlink_blob, name, digest)
        return web.Response(status=202)

    # Uploads

    async def _start_upload(self, request: web.Request, name: str, identity: str) -> web.StreamResponse:
        mount, source = request.query.get("mount", ""), request.query.get("from", "")
        if DIGEST.fullmatch(mount) and NAME.fullmatch(source) and self._storage.has_blob(source, mount):
            self._storage.link_blob(name, mount)
            return _created(name, mount)
        identity = self._storage.start_upload()
        if "digest" in request.query:  # the whole blob in one POST
            return await self._finish_upload(request, name, identity)
        return _accepted(name, identity, 0, 202)

    async def _show_upload(self, request: web.Request, name: str, identity: str) -> web.StreamResponse:
        path = self._storage.upload(identity)
        if path is None:
            return _unknown_upload(identity)
        return _accepted(name, identity, path.stat().st_size, 204)

    async def _append_upload(self, request: web.Request, name: str, identity: str) -> web.StreamResponse:
        path = self._storage.upload(identity)
        if path is None:
            return _unknown_upload(identity)
        refusal = await self._receive(request, identity, path)
        return refusal or _accepted(name, identity, path.stat().st_size, 202)

    async def _finish_upload(self, request: web.Request, name: str, identity: str) -> web.StreamResponse:
        path = self._storage.upload(identity)
        digest = request.query.get("digest", "")
        if path is None:
            return _unknown_upload(identity)
        if not DIGEST.fullmatch(digest):
            return answer_error(400, "DIGEST_INVALID", f"{digest!r} is not a sha256 digest")
        refusal = await self._receive(request, identity, path)
        if refusal is not None:
            return refusal
        if not await asyncio.to_thread(self._storage.finish_upload, name, path, digest):
            path.unlink(missing_ok=True)
            return answer_error(400, "DIGEST_INVALID", f"the content does not have the digest {digest}")
        return _created(name, digest)

    async def _cancel_upload(self, request: web.Request, name: str, identity: str) -> web.StreamResponse:
        path = self._storage.upload(identity)
        if path is None:
            return _unknown_upload(identity)
        path.unlink(missing_ok=True)
        return web.Response(status=204)

    async def _receive(self, request: web.Request, identity: str, path: Path) -> web.Response | None:
        """Append the body to the upload; an answer when that is refused."""
        if identity in self._busy:
            return answer_error(409, "BLOB_UPLOAD_INVALID", "another request writes to this upload")
        start = request.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        size = path.stat().st_size
        if start and (not start.isdecimal() or int(start) != size):
            refusal = answer_error(416, "BLOB_UPLOAD_INVALID", f"the upload stands at {size}, not at {start}")
            refusal.headers["Range"] = f"0-{max(0, size - 1)}"
            return refusal
        self._busy.add(identity)
        try:
            with path.open("ab") as file:
                async for chunk in request.content.iter_chunked(CHUNK):
                    file.write(chunk)
        finally:
            self._busy.discard(identity)
        return None

    # Manifests

    async def _get_manifest(self, request: web.Request, name: str, reference: str) -> web.StreamResponse:
        digest = reference if DIGEST.fullmatch(reference) else self._storage.resolve(name, _tag(reference))
        found = self._storage.manifest(name, digest) if digest else None
        if digest is None or found is None:
            return answer_error(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {reference}")
        content, media_type = found
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"', "Content-Type": media_type}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        return web.Response(body=content, headers=headers)

    async def _put_manifest(self, request: web.Request, name: str, reference: str) -> web.StreamResponse:
        by_digest = bool(DIGEST.fullmatch(reference))
        if not by_digest and not TAG.fullmatch(reference):
            return answer_error(400, "TAG_INVALID", f"{reference!r} is neither a tag nor a sha256 digest")
        content = await request.content.read(MAX_MANIFEST + 1)
        while chunk := await request.content.read(MAX_MANIFEST + 1 - len(content)):
            content += chunk
        if len(content) > MAX_MANIFEST:
            return answer_error(413, "SIZE_INVALID", f"a manifest may have {MAX_MANIFEST} bytes")
        manifest = _decode(content)
        if manifest is None:
            return answer_error(400, "MANIFEST_INVALID", "the manifest is not a JSON object")
        missing = self._missing(name, manifest)
        if missing:
            return answer_error(400, "MANIFEST_BLOB_UNKNOWN", f"{name} lacks {missing}, which the manifest names")
        return await asyncio.to_thread(self._store, request, name, "" if by_digest else reference, content, manifest)

    def _store(
        self, request: web.Request, name: str, tag: str, content: bytes, manifest: dict[str, Any]
    ) -> web.StreamResponse:
        media_type = str(manifest.get("mediaType") or request.content_type)
        digest = self._storage.put_manifest(name, tag, content, media_type)
        location = f"/v2/{name}/manifests/{digest}"
        headers = {"Location": location, "Docker-Content-Digest": digest}
        subject = _subject(manifest)
        if subject:
            self._storage.add_referrer(name, subject, _referrer(manifest, digest, len(content), media_type))
            headers["OCI-Subject"] = subject
        return web.Response(status=201, headers=headers)

    async def _delete_manifest(self, request: web.Request, name: str, reference: str) -> web.StreamResponse:
        if not DIGEST.fullmatch(reference):
            gone = self._storage.delete_tag(name, _tag(reference))
            return web.Response(status=202) if gone else answer_error(404, "MANIFEST_UNKNOWN", f"no tag {reference}")
        found = self._storage.manifest(name, reference)
        subject = _subject(_decode(found[0]) or {}) if found else ""
        if not await asyncio.to_thread(self._storage.delete_manifest, name, reference, subject):
            return answer_error(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {reference}")
        return web.Response(status=202)

    def _missing(self, name: str, manifest: dict[str, Any]) -> str:
        """The first blob or manifest that the manifest names and the repository has not, or ""."""
        for blob in [manifest.get("config"), *(manifest.get("layers") or [])]:
            digest = blob.get("digest") if isinstance(blob, dict) else None
            if blob is not None and not (
                isinstance(digest, str) and DIGEST.fullmatch(digest) and self._storage.has_blob(name, digest)
            ):
                return f"blob {digest}"
        for child in manifest.get("manifests") or []:
            digest = child.get("digest") if isinstance(child, dict) else None
            if not (isinstance(digest, str) and DIGEST.fullmatch(digest) and self._storage.manifest(name, digest)):
                return f"manifest {digest}"
        return ""

    # Listings

    async def _list_tags(self, request: web.Request, name: str, _: str) -> web.StreamResponse:
        if not self._storage.exists(name):
            return answer_error(404, "NAME_UNKNOWN", f"no repository {name}")
        return _page(request, f"/v2/{name}/tags/list", "tags", self._storage.tags(name), {"name": name})

    async def _list_referrers(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        if not DIGEST.fullmatch(digest):
            return answer_error(400, "DIGEST_INVALID", f"{digest!r} is not a sha256 digest")
        found = self._storage.referrers(name, digest)
        headers = {}
        if wanted := request.query.get("artifactType"):
            found = [one for one in found if one.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        return web.Response(body=json.dumps(body).encode(), content_type=INDEX, headers=headers)


def _page(request: web.Request, path: str, key: str, names: list[str], more: dict[str, str]) -> web.Response:
    """One page of a listing: `n` names after `last`."""
    after = [one for one in names if one > request.query.get("last", "")]
    wanted = request.query.get("n", "")
    count = int(wanted) if wanted.isdecimal() else len(after)
    headers = {}
    if count < len(after) and count > 0:
        headers["Link"] = f'<{path}?n={count}&last={after[count - 1]}>; rel="next"'
    return web.json_response({**more, key: after[:count]}, headers=headers)


def _tag(reference: str) -> str:
    return reference if TAG.fullmatch(reference) else "-"  # "-" is no tag, so nothing has it


def _accepted(name: str, identity: str, size: int, status: int) -> web.Response:
    headers = {
        "Location": f"/v2/{name}/blobs/uploads/{identity}",
        "Range": f"0-{max(0, size - 1)}",
        "Docker-Upload-UUID": identity,
    }
    return web.Response(status=status, headers=headers)


def _created(name: str, digest: str) -> web.Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _unknown_upload(identity: str) -> web.Response:
    return answer_error(404, "BLOB_UPLOAD_UNKNOWN", f"no upload {identity}")


def _decode(content: bytes) -> dict[str, Any] | None:
    try:
        manifest = json.loads(content)
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def _subject(manifest: dict[str, Any]) -> str:
    subject = manifest.get("subject")
    digest = subject.get("digest") if isinstance(subject, dict) else None
    return digest if isinstance(digest, str) and DIGEST.fullmatch(digest) else ""


def _referrer(manifest: dict[str, Any], digest: str, size: int, media_type: str) -> dict[str, Any]:
    config = manifest.get("config")
    kind = manifest.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    described: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size, "artifactType": kind}
    if manifest.get("annotations"):
        described["annotations"] = manifest["annotations"]
    return described
