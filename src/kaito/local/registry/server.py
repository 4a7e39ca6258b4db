"""The registry's life: it listens, checks who asks, and serves `/v2/` and `/data/`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from kaito.local.registry.answers import answer_error
from kaito.local.registry.credentials import RegistryCredentials, make_credentials, write_private
from kaito.local.registry.data import add_data_routes
from kaito.local.registry.routes import RegistryRoutes
from kaito.local.registry.storage import Storage

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Registry:
    """An OCI registry on one address.

    `root` holds its content and `config.json`, a docker config with its credentials (0600). `data_dir` is served
    read-only at /data/, without a login: data-set URLs carry none. `port` 0 takes a free one; `.port` tells which.
    """

    def __init__(
        self,
        root: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        credentials: RegistryCredentials | None = None,
        data_dir: Path | None = None,
    ) -> None:
        self._root = root
        self._host = host
        self._wanted_port = port
        self.credentials = credentials or make_credentials(root)
        self._data_dir = data_dir
        self._runner: web.AppRunner | None = None
        self.port = port

    @property
    def name(self) -> str:
        """`host:port`, as references to its images spell it."""
        return f"{self._host}:{self.port}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._check_login], client_max_size=1 << 40)
        RegistryRoutes(Storage(self._root)).add_to(app)
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            add_data_routes(app, self._data_dir)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._wanted_port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        write_private(self._root / "config.json", json.dumps(self.credentials.docker_config(self.name), indent=1))

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _check_login(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/v2") and not self.credentials.accepts(request.headers.get("Authorization", "")):
            refused = answer_error(401, "UNAUTHORIZED", "authentication required")
            refused.headers["WWW-Authenticate"] = 'Basic realm="kaito"'
            return refused
        response = await handler(request)
        if request.path.startswith("/v2"):
            response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        return response
