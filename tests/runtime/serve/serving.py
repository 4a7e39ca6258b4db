"""A server under test: the real surface over the built-in engine with the built-in model, on a free loopback port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from kaito.runtime.model.main import find_builtin
from kaito.runtime.progress import Progress
from kaito.runtime.serve.app import Surface
from kaito.runtime.serve.engines.builtin.engine import AdapterSource, BuiltinEngine, BuiltinOptions
from kaito.runtime.serve.settings import Settings
from kaito.runtime.serve.state import ServerState

MODEL = "tiny-phi-3"


@dataclass
class Server:
    url: str
    engine: BuiltinEngine
    state: ServerState
    session: aiohttp.ClientSession

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer. `body` as JSON, or bytes as they are."""
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.session.post(self.url + path, headers=headers, **content) as response:
            return response.status, await response.json(content_type=None)

    async def chat(self, prompt: str, **fields: Any) -> str:
        status, answer = await self.post("/chat", {"prompt": prompt, **fields})
        assert status == 200, answer
        return str(answer["Result"])


@contextlib.asynccontextmanager
async def serving(
    adapters: dict[str, Path] | None = None,
    *,
    folder: Path | None = None,
    limits: dict[str, int] | None = None,
    **settings: Any,
) -> AsyncIterator[Server]:
    folder = folder or find_builtin(MODEL)
    sources = tuple(AdapterSource(name, path) for name, path in (adapters or {}).items())
    options = BuiltinOptions(folder, MODEL, sources, dtype="float32", kv_bytes=64 << 20, threads=1, limits=limits or {})
    engine = BuiltinEngine(options)
    state = ServerState()
    told = Settings("127.0.0.1", 0, folder, MODEL, settings.pop("default_model", MODEL), "transformers", **settings)
    surface = Surface(engine, told, state, Progress("serve"))
    runner = web.AppRunner(surface.application(), handler_cancellation=True, shutdown_timeout=5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        await engine.start()
        state.phase = "ready"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Server(f"http://127.0.0.1:{port}", engine, state, session)
    finally:
        await engine.stop()
        await runner.cleanup()
