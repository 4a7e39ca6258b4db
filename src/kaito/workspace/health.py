"""`/healthz`, `/readyz` and `/metrics` of the operator, on two ports that may be the same or off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


async def serve_health(
    stack: AsyncExitStack, is_ready: Callable[[], bool], host: str, health_port: int, metrics_port: int
) -> None:
    """Listen until `stack` closes. Port 0 means: do not listen."""
    for port in sorted({health_port, metrics_port} - {0}):
        runner = web.AppRunner(_app(is_ready), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, host or None, port).start()


def _app(is_ready: Callable[[], bool]) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if is_ready() else web.Response(status=503, text="the caches are being filled")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app
