"""The HTTP surface in front of an engine that is an OpenAI server itself (vLLM).

What it has is passed through, byte for byte and as it comes; `/chat`, `/`, `/healthz`, keys, the default model, a
bounded queue and draining are ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

from kaito import __version__
from kaito.runtime.progress import Progress
from kaito.runtime.serve.engines.vllm.server import VllmServer
from kaito.runtime.serve.errors import InvalidRequest, NotReady, Overloaded, TimedOut
from kaito.runtime.serve.middleware import allow_browsers, answer_browsers, require_key, write_errors
from kaito.runtime.serve.remote_chat import RemoteChat
from kaito.runtime.serve.settings import Settings
from kaito.runtime.serve.state import ServerState

MAX_BODY = 64 << 20  # bytes; chats may carry images
DEFAULT_RUNNING = 256  # vLLM's own --max-num-seqs
HEALTH_TIMEOUT = 4.0  # seconds; below the probes' own
# Headers of one connection, RFC 9110 section 7.6.1, and those that are made anew.
HOP = frozenset({"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
                 "transfer-encoding", "upgrade", "host", "content-length"})  # fmt: skip
ADAPTER_PATHS = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
NAMELESS_PATHS = ADAPTER_PATHS | {"/v1/models"}
# Beside /v1: what vLLM offers to clients. Its switches for operators (sleep, profile, reset) stay inside the pod.
MORE_PATHS = ("/tokenize", "/detokenize", "/pooling", "/classify", "/score", "/rerank", "/v2/{rest:.*}")


class Named(msgspec.Struct):
    """As much of a request as says which model is to answer."""

    model: str | None = None


class ProxySurface:
    """Routes over one vLLM server."""

    def __init__(self, engine: VllmServer, settings: Settings, state: ServerState, progress: Progress) -> None:
        self._engine = engine
        self._settings = settings
        self._state = state
        self._progress = progress
        self._registry = CollectorRegistry()
        self._rejected = Counter("kaito_ratelimit_rejected", "Requests answered 429.", registry=self._registry)
        self._running = _running(settings)
        self._capacity = self._running + (settings.max_waiting or self._running)
        # KAITO_DEFAULT_MODEL is an adapter after tuning. vLLM answers a request without a name with the base model.
        self._default = None if settings.default_model == settings.model_name else settings.default_model

    def application(self) -> web.Application:
        middlewares = [answer_browsers, write_errors(self._rejected.inc), require_key(self._settings.api_keys)]
        app = web.Application(middlewares=middlewares, client_max_size=max(MAX_BODY, self._settings.max_body))
        app.on_response_prepare.append(allow_browsers)
        app.cleanup_ctx.append(self._session_of)
        app.add_routes(
            [
                web.get("/", self.root),
                web.get("/health", self.health),
                web.get("/healthz", self.healthz),
                web.get("/ping", self.health),
                web.get("/progress", self.progress),
                web.get("/metrics", self.metrics),
                web.get("/version", self.version),
                web.post("/chat", self.chat),
                web.get("/openapi.json", self.forward),
                web.route("*", "/v1/{rest:.*}", self.forward),
                *(web.post(path, self.forward) for path in MORE_PATHS),
            ]
        )
        return app

    async def _session_of(self, app: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            self._engine.url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
        ) as self._session:
            default = self._default or self._engine.models()[0].name
            self._chat = RemoteChat(self._session, default, self._settings)
            yield

    async def root(self, request: web.Request) -> web.Response:
        return web.json_response({"message": "Server is running"})

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if await self._is_healthy() else 503)

    async def healthz(self, request: web.Request) -> web.Response:
        if await self._is_healthy():
            return web.json_response({"status": "Healthy"})
        phase = "unhealthy" if self._state.phase == "ready" else self._state.phase
        return web.json_response({"status": phase.capitalize()}, status=503)

    async def _is_healthy(self) -> bool:
        """Ready here, and well by its own word: vLLM's /health knows when its engine process is gone."""
        if self._state.phase != "ready" or not self._engine.is_alive:
            return False
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT), self._session.get("/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def progress(self, request: web.Request) -> web.Response:
        return web.json_response(self._progress.snapshot())

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": __version__})

    async def metrics(self, request: web.Request) -> web.Response:
        """vLLM's figures where it answers, and ours behind them."""
        ours = generate_latest(self._registry)
        theirs = b""
        if self._engine.is_alive and self._state.phase != "loading":
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with asyncio.timeout(HEALTH_TIMEOUT), self._session.get("/metrics") as response:
                    theirs = await response.read() if response.status == 200 else b""
        if theirs and not theirs.endswith(b"\n"):
            theirs += b"\n"
        return web.Response(body=theirs + ours, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def chat(self, request: web.Request) -> web.Response:
        with self._place():
            content = await request.read()
            async with self._upstream_errors():
                return web.json_response(await self._chat.answer(content))

    async def forward(self, request: web.Request) -> web.StreamResponse:
        with self._place():
            if request.path in ADAPTER_PATHS and not self._engine.can_load_adapters:
                raise InvalidRequest(
                    "vLLM on a CPU does not keep apart adapters that are loaded at run time; name them in the Workspace"
                )
            body = self._named(request.path, await request.read()) if request.can_read_body else b""
            headers = _end_to_end(request.headers)
            headers.popall("Authorization", None)  # the key was for this server
            sent = web.StreamResponse()
            async with (
                self._upstream_errors(sent),
                self._session.request(
                    request.method, request.rel_url, data=body or None, headers=headers, allow_redirects=False
                ) as answer,
            ):
                sent.set_status(answer.status, answer.reason)
                sent.headers.extend(_end_to_end(answer.headers))
                if answer.content_length is not None:
                    sent.content_length = answer.content_length
                await sent.prepare(request)
                await _copy(answer, sent)
            return sent

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Count a request in. Raises NotReady or Overloaded."""
        with self._state.request():
            if self._state.active > self._capacity:
                waiting = self._capacity - self._running
                raise Overloaded(f"{waiting} requests wait already; try again", 1)
            yield

    @contextlib.asynccontextmanager
    async def _upstream_errors(self, sent: web.StreamResponse | None = None) -> AsyncIterator[None]:
        """What goes wrong between here and the engine, in OpenAI's words; once `sent` has begun it can only be cut."""
        seconds = self._settings.request_timeout
        try:
            async with asyncio.timeout(seconds):
                yield
        except (aiohttp.ClientError, TimeoutError) as error:
            if sent is not None and sent.prepared:
                raise ConnectionResetError("the answer was cut short") from error
            if isinstance(error, aiohttp.ClientError):
                raise NotReady(f"the engine does not answer ({type(error).__name__}); ask again") from error
            raise TimedOut(f"the answer took longer than {seconds:.0f} s; ask for fewer tokens") from error

    def _named(self, path: str, body: bytes) -> bytes:
        """The body with the default model in it, where it names none and the default is an adapter."""
        if self._default is None or path in NAMELESS_PATHS:
            return body
        try:
            if msgspec.json.decode(body, type=Named).model:
                return body
            content: Any = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return body  # vLLM says what is wrong with it
        content["model"] = self._default
        return msgspec.json.encode(content)


async def _copy(answer: aiohttp.ClientResponse, sent: web.StreamResponse) -> None:
    """Chunks as they come. An engine that goes away in a stream of events leaves one more event, which says so."""
    while True:
        try:
            chunk = await answer.content.readany()
        except aiohttp.ClientError:
            if answer.content_type != "text/event-stream":
                raise
            error = NotReady("the engine went away in the middle of the answer")
            await sent.write(b"data: " + msgspec.json.encode(error.body()) + b"\n\n")
            break
        if not chunk:
            break
        await sent.write(chunk)
    await sent.write_eof()


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {one.strip().lower() for one in headers.get("Connection", "").split(",")}
    return CIMultiDict((key, value) for key, value in headers.items() if key.lower() not in HOP | named)


def _running(settings: Settings) -> int:
    """Sequences that the engine runs at once."""
    given = settings.engine_options.get("max-num-seqs")
    is_count = isinstance(given, int) and not isinstance(given, bool) and given > 0
    return int(given) if is_count and given is not None else DEFAULT_RUNNING
