"""An embedded control plane for tests: the real API server, on its own thread and loop, in a folder of its own.

Its own thread, because tests talk to it with blocking clients (kubectl, http.client) as well as from other event loops.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.server import ApiServer
from kaito.local.backend import PodBackend

START_SECONDS = 20.0
KUBECTL_SECONDS = 60.0


class Answer(NamedTuple):
    code: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def kubectl_path() -> str:
    """KAITO_KUBECTL, else `kubectl` on PATH. Without either the test skips, or fails when KAITO_REQUIRE_TOOLS=1."""
    found = os.environ.get("KAITO_KUBECTL") or shutil.which("kubectl")
    if found:
        return found
    message = "kubectl is not installed (Debian's kubernetes-client) and KAITO_KUBECTL names none"
    if os.environ.get("KAITO_REQUIRE_TOOLS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def send_request(
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    body: object,
    headers: dict[str, str] | None,
    *,
    token: str,
) -> Answer:
    """A dict or list is sent as JSON; bytes and text as they are. A header that is empty is not sent."""
    sent = {"Authorization": f"Bearer {token}", "User-Agent": "test/1", **(headers or {})}
    content = body.encode() if isinstance(body, str) else body
    if isinstance(body, dict | list):
        content = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    connection.request(method, path, content, {name: value for name, value in sent.items() if value})
    response = connection.getresponse()
    answer = response.read()
    return Answer(response.status, dict(response.getheaders()), answer)


class ApiEndpoint:
    """An API server that is spoken to over TLS, with the token of its administrator."""

    url: str
    ca: Path
    token: str

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, *, token: str = ""
    ) -> Answer:
        """One request of its own connection. A dict or list is sent as JSON; bytes and text as they are."""
        connection = self.connect()
        try:
            return send_request(connection, method, path, body, headers, token=token or self.token)
        finally:
            connection.close()

    def connect(self, timeout: float = 30.0) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.ca))
        location = urlsplit(self.url)
        assert location.hostname is not None
        return http.client.HTTPSConnection(location.hostname, location.port, timeout=timeout, context=context)


class Cluster(ApiEndpoint):
    """A running API server. `kubeconfig`, `url`, `ca` and `token` are for clients; `home` is its data folder."""

    def __init__(self, home: Path, **config: Any) -> None:
        self.home = home
        self._config: dict[str, Any] = {"port": 0, **config}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="apiserver", daemon=True)
        self._thread.start()
        self.server = self._new_server()

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def kubeconfig(self) -> Path:
        return self.server.kubeconfig

    @property
    def ca(self) -> Path:
        return self.server.ca

    @property
    def token(self) -> str:
        return self.server.token

    def start(self) -> None:
        self.run(self.server.start())

    def restart(self) -> None:
        """A clean stop and a new server on the same folder and port."""
        self.run(self.server.stop())
        self._config["port"] = self.port
        self.server = self._new_server()
        self.start()

    def set_backend(self, backend: PodBackend) -> None:
        self._loop.call_soon_threadsafe(self.server.set_backend, backend)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine on the server's own loop."""
        return self.submit(work).result(START_SECONDS)

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        self.run(self.server.stop())
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def kubectl(
        self, *arguments: str, stdin: str = "", timeout: float = KUBECTL_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl_path(), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=self.environment(),
        )

    def environment(self) -> dict[str, str]:
        """For programs that talk to this cluster; their home, and so kubectl's cache, is in the data folder."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.home),
            "KUBECTL_COMMAND_HEADERS": "false",
        }

    def _new_server(self) -> ApiServer:
        return ApiServer(ServerConfig(home=self.home, **self._config))
