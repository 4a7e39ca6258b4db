"""What is served beside the resources: version, health, discovery, OpenAPI."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable

from aiohttp import web

from kaito import __version__
from kaito.local.apiserver.answer import encode, respond
from kaito.local.apiserver.discovery import Discovery
from kaito.local.apiserver.patching import STRATEGIC_PATCH
from kaito.local.apiserver.resources import Resources
from kaito.local.machinery import openapi
from kaito.local.machinery.errors import PageNotFound, method_not_allowed
from kaito.local.store.records import Object

# Clients ask for `...spec.v2@v1.0+protobuf`, which Go's own parser of media types refuses in an answer.
OPENAPI_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": f"v1.33.0+kaito-{__version__}",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": f"python{platform.python_version()}",
    "compiler": "cpython",
    "platform": f"{platform.system().lower()}/{platform.machine()}",
}
HEALTH = ("/healthz", "/livez", "/readyz")
Rendered = tuple[bytes, str]


class Documents:
    def __init__(self, resources: Resources, ready: Callable[[], bool]) -> None:
        self._resources = resources
        self._discovery = Discovery(resources)
        self._ready = ready
        self._rendered: dict[str, Rendered] = {}
        self._generation = -1

    def is_public(self, path: str) -> bool:
        """Readable without a token: is it there, and which version is it."""
        return path == "/version" or path.startswith(HEALTH)

    def serve(self, path: str, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        if path.rstrip("/") == "/version":
            return respond(encode(VERSION), warnings=[])
        if path.startswith(HEALTH):
            ready = self._ready()
            return web.Response(text="ok" if ready else "not ready", status=200 if ready else 503)
        if path == "/openapi/v2":
            return self._openapi_v2(request)
        if path.rstrip("/") == "/openapi/v3":
            body, etag = self._render(path, lambda: encode(openapi.v3_index(self._resources.infos())))
            return _document(request, body, etag, "application/json")
        if path.startswith("/openapi/v3/"):
            return self._openapi_v3(path.removeprefix("/openapi/v3/"), request)
        return self._discovery.serve(path.rstrip("/"), request)

    def _openapi_v2(self, request: web.BaseRequest) -> web.Response:
        """kubectl up to 1.26 asks for protobuf and cannot read JSON."""
        infos = self._resources.infos
        if "protobuf" in request.headers.get("Accept", ""):
            body, etag = self._render("v2.pb", lambda: openapi.v2_protobuf(infos()))
            return _document(request, body, etag, OPENAPI_V2_PROTOBUF)
        body, etag = self._render("v2.json", lambda: encode(openapi.v2_json(infos())))
        return _document(request, body, etag, "application/json")

    def _openapi_v3(self, name: str, request: web.BaseRequest) -> web.Response:
        parts = name.split("/")
        if parts[0] == "api" and len(parts) == 2:
            group, version = "", parts[1]
        elif parts[0] == "apis" and len(parts) == 3:
            group, version = parts[1], parts[2]
        else:
            raise PageNotFound()
        infos = self._resources.infos()
        if not any(info.group == group and info.version == version for info in infos):
            raise PageNotFound()
        custom = any(info.crd and info.group == group for info in infos)

        def render() -> bytes:
            document = openapi.v3_document(infos, group, version)
            return encode(without_strategic_patch(document) if custom else document)

        body, etag = self._render(f"v3/{name}", render)
        return _document(request, body, etag, "application/json")

    def _render(self, key: str, render: Callable[[], bytes]) -> Rendered:
        if self._generation != self._resources.generation:
            self._rendered.clear()
            self._generation = self._resources.generation
        if key not in self._rendered:
            body = render()
            self._rendered[key] = (body, f'"{hashlib.sha256(body).hexdigest().upper()}"')
        return self._rendered[key]


def without_strategic_patch(document: Object) -> Object:
    """kubectl 1.28 and later sends the patch type that the document offers, and custom resources refuse this one."""
    for operations in document.get("paths", {}).values():
        content = operations.get("patch", {}).get("requestBody", {}).get("content", {})
        content.pop(STRATEGIC_PATCH, None)
    return document


def _document(request: web.BaseRequest, body: bytes, etag: str, content_type: str) -> web.Response:
    headers = {"ETag": etag, "Vary": "Accept", "Content-Type": content_type}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)
