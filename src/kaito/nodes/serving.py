"""Probes and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


@dataclass
class Probes:
    """What the probes answer. `ready` means that the caches know the world."""

    ready: bool = False


@asynccontextmanager
async def serve_probes(probes: Probes, bind: str, *, health_port: int, metrics_port: int) -> AsyncIterator[None]:
    """Serve while the context lasts. A port of 0 is not served; the same port twice is one server."""
    async with AsyncExitStack() as stack:
        for port in sorted({health_port, metrics_port} - {0}):
            await stack.enter_async_context(_serving(_application(probes), bind, port))
        yield


def _application(probes: Probes) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        if probes.ready:
            return web.Response(text="ok")
        return web.Response(status=503, text="waiting for claims to be served and for the caches to fill")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return application


@asynccontextmanager
async def _serving(application: web.Application, bind: str, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, bind or None, port).start()
        yield
    finally:
        await runner.cleanup()
