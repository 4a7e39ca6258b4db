"""A small hub on loopback, as much of it as the client asks: revisions, file lists with digests, ranges, gates."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web

TOKEN = "hf_secret"


def commit_of(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@dataclass
class FakeHub:
    """`models` by name: revision -> file -> content. `cut`: files whose first answer breaks off after some bytes;
    `damaged`: files that come with other content than their digest says; `gated`: names that want the token."""

    models: Mapping[str, Mapping[str, Mapping[str, bytes]]]
    gated: frozenset[str] = frozenset()
    cut: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    ranges: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    status: int = 0

    def __enter__(self) -> FakeHub:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        assert started.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/api/models/{owner}/{name}/revision/{revision}", self._info)
        app.router.add_get("/{owner}/{name}/resolve/{revision}/{file:.+}", self._file)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    def _find(self, request: web.Request) -> tuple[str, Mapping[str, bytes]] | web.Response:
        if self.status:
            return web.Response(status=self.status)
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        revisions = self.models.get(name)
        if revisions is None:
            return web.Response(status=401, headers={"X-Error-Code": "RepoNotFound"})
        if name in self.gated and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401, headers={"X-Error-Code": "GatedRepo"})
        asked = request.match_info["revision"]
        for revision, files in revisions.items():
            if asked in (revision, commit_of(name + revision)):
                return commit_of(name + revision), files
        return web.Response(status=404, headers={"X-Error-Code": "RevisionNotFound"})

    async def _info(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        commit, files = found
        siblings: list[dict[str, Any]] = []
        for name, content in files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        return web.json_response({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        commit, files = found
        name = request.match_info["file"]
        if name not in files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = files[name]
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        self.fetched.append(name)
        if name in self.damaged:
            content = bytes(len(content))
        start, status = 0, 200
        if "Range" in request.headers:
            self.ranges.append(request.headers["Range"])
            start, status = int(request.headers["Range"].removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(content) - start
        await response.prepare(request)
        if name in self.cut:
            await response.write(content[start : start + self.cut.pop(name)])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(content[start:])
        return response
