"""The HTTP surface of an engine that runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kaito import __version__
from kaito.runtime.progress import Progress
from kaito.runtime.serve.answers import Answers
from kaito.runtime.serve.chat import KaitoChat, KaitoChatRequest
from kaito.runtime.serve.embeddings import EmbeddingRequest, Embeddings
from kaito.runtime.serve.engines.base import Engine
from kaito.runtime.serve.errors import InvalidRequest, RequestError, TimedOut
from kaito.runtime.serve.metrics import Metrics
from kaito.runtime.serve.middleware import Handler, allow_browsers, answer_browsers, require_key, write_errors
from kaito.runtime.serve.openai import Exchange, OpenAI, model_list
from kaito.runtime.serve.openapi import Operation, render_openapi
from kaito.runtime.serve.requests import ChatRequest, CompletionRequest, decode
from kaito.runtime.serve.settings import Settings
from kaito.runtime.serve.state import ServerState
from kaito.runtime.serve.tokens import DetokenizeRequest, TokenizeRequest, Tokens

T = TypeVar("T")
LARGE_BODY = 32 << 10  # bytes; larger ones are understood in a thread, so that nobody's stream stutters
SLOW_WORDS = (b'"response_format"', b'"structured_outputs"', b'"guided_', b'"tool_choice"')  # grammars are compiled
SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class LoadAdapter(msgspec.Struct):
    """vLLM's request of /v1/load_lora_adapter. `strength` is ours."""

    lora_name: str
    lora_path: str
    strength: float = 1.0


class UnloadAdapter(msgspec.Struct):
    lora_name: str


class Surface:
    """Routes over one engine."""

    def __init__(self, engine: Engine, settings: Settings, state: ServerState, progress: Progress) -> None:
        self._engine = engine
        self._settings = settings
        self._state = state
        self._progress = progress
        self._created = int(time.time())
        self.metrics = Metrics(settings.model_name, engine.stats)
        answers = Answers(engine, self.metrics)
        self._openai = OpenAI(engine, answers, settings.default_model)
        self._chat = KaitoChat(engine, answers, self._openai, settings.chat_defaults)
        self._tokens = Tokens(engine, self._openai)
        self._embeddings = Embeddings(engine, self._openai)

    def application(self) -> web.Application:
        middlewares = [
            answer_browsers,
            write_errors(self.metrics.rejected.inc),
            require_key(self._settings.api_keys),
        ]
        app = web.Application(middlewares=middlewares, client_max_size=self._settings.max_body)
        app.on_response_prepare.append(allow_browsers)
        app.add_routes([web.route(one.method, one.path, handler) for one, handler in self._operations()])
        app.add_routes([web.head(one.path, handler) for one, handler in self._operations() if one.method == "GET"])
        return app

    def _operations(self) -> list[tuple[Operation, Handler]]:
        streams = ("application/json", "text/event-stream")
        text = ("text/plain",)
        return [
            (Operation("GET", "/", "That the server runs."), self.root),
            (Operation("GET", "/health", "200 when the model answers, else 503.", media=text), self.health),
            (Operation("GET", "/healthz", "The same, in words."), self.healthz),
            (Operation("GET", "/ping", "As /health.", media=text), self.health),
            (Operation("GET", "/progress", "What the server is doing."), self.progress),
            (Operation("GET", "/metrics", "Figures for Prometheus.", media=text), self.scrape),
            (Operation("GET", "/version", "The release."), self.version),
            (Operation("GET", "/openapi.json", "This description."), self.openapi),
            (Operation("GET", "/v1/models", "The base model and the adapters."), self.models),
            (Operation("GET", "/v1/models/{name:.+}", "One of them."), self.model),
            (
                Operation("POST", "/v1/chat/completions", "Answer a conversation.", ChatRequest, streams),
                self.chat_completions,
            ),
            (Operation("POST", "/v1/completions", "Go on with a text.", CompletionRequest, streams), self.completions),
            (Operation("POST", "/v1/embeddings", "Vectors of texts.", EmbeddingRequest), self.embeddings),
            (Operation("POST", "/tokenize", "Tokens of a text or a conversation.", TokenizeRequest), self.tokenize),
            (Operation("POST", "/detokenize", "The text of tokens.", DetokenizeRequest), self.detokenize),
            (
                Operation("POST", "/v1/load_lora_adapter", "Load an adapter.", LoadAdapter, text),
                self.load_adapter,
            ),
            (
                Operation("POST", "/v1/unload_lora_adapter", "Unload an adapter.", UnloadAdapter, text),
                self.unload_adapter,
            ),
            (Operation("POST", "/chat", "Answer a prompt or messages.", KaitoChatRequest), self.chat),
        ]

    async def openapi(self, request: web.Request) -> web.Response:
        operations = [operation for operation, _ in self._operations()]
        return web.json_response(render_openapi(operations, asks_for_key=bool(self._settings.api_keys)))

    async def root(self, request: web.Request) -> web.Response:
        return web.json_response({"message": "Server is running"})

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._is_healthy() else 503)

    async def healthz(self, request: web.Request) -> web.Response:
        if self._is_healthy():
            return web.json_response({"status": "Healthy"})
        return web.json_response({"status": self._state.phase.capitalize()}, status=503)

    def _is_healthy(self) -> bool:
        return self._state.phase == "ready" and self._engine.is_alive

    async def progress(self, request: web.Request) -> web.Response:
        return web.json_response(self._progress.snapshot())

    async def scrape(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": __version__})

    async def models(self, request: web.Request) -> web.Response:
        with self._state.request():
            return web.json_response(model_list(self._engine, self._created))

    async def model(self, request: web.Request) -> web.Response:
        with self._state.request():
            name = self._openai.model_of(request.match_info["name"])
            listed = model_list(self._engine, self._created)["data"]
            return web.json_response(next(one for one in listed if one["id"] == name))

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        with self._state.request():
            return await self._exchange(request, self._openai.chat)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        with self._state.request():
            return await self._exchange(request, self._openai.completion)

    async def embeddings(self, request: web.Request) -> web.Response:
        with self._state.request():
            content = await request.read()
            return web.json_response(await self._in_time(self._embeddings.answer(content)))

    async def tokenize(self, request: web.Request) -> web.Response:
        with self._state.request():
            content = await request.read()
            return web.json_response(await asyncio.to_thread(self._tokens.tokenize, content))

    async def detokenize(self, request: web.Request) -> web.Response:
        with self._state.request():
            content = await request.read()
            return web.json_response(await asyncio.to_thread(self._tokens.detokenize, content))

    async def chat(self, request: web.Request) -> web.Response:
        with self._state.request():
            content = await request.read()
            return web.json_response(await self._in_time(self._chat.answer(content)))

    async def load_adapter(self, request: web.Request) -> web.Response:
        with self._state.request():
            self._check_adapters_may_change()
            wanted: LoadAdapter = decode(await request.read(), LoadAdapter)
            if not wanted.lora_name or not wanted.lora_path:
                raise InvalidRequest("lora_name and lora_path may not be empty", "lora_name")
            await self._engine.load_adapter(wanted.lora_name, Path(wanted.lora_path), wanted.strength)
            return web.Response(text=f"Success: LoRA adapter '{wanted.lora_name}' added successfully.")

    async def unload_adapter(self, request: web.Request) -> web.Response:
        with self._state.request():
            self._check_adapters_may_change()
            wanted: UnloadAdapter = decode(await request.read(), UnloadAdapter)
            await self._engine.unload_adapter(wanted.lora_name)
            return web.Response(text=f"Success: LoRA adapter '{wanted.lora_name}' removed successfully.")

    def _check_adapters_may_change(self) -> None:
        if not self._settings.can_load_adapters:
            raise InvalidRequest(
                "this server does not change adapters at run time; VLLM_ALLOW_RUNTIME_LORA_UPDATING=true allows it"
            )

    async def _exchange(self, request: web.Request, understand: Callable[[bytes], Exchange]) -> web.StreamResponse:
        content = await request.read()
        is_slow = len(content) > LARGE_BODY or any(word in content for word in SLOW_WORDS)
        exchange = await asyncio.to_thread(understand, content) if is_slow else understand(content)
        if exchange.is_streamed:
            return await self._stream(request, exchange)
        return web.json_response(await self._in_time(exchange.whole()))

    async def _in_time(self, answer: Any) -> Any:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await answer
        except TimeoutError as error:
            seconds = self._settings.request_timeout
            raise TimedOut(f"the answer took longer than {seconds:.0f} s; ask for fewer tokens, or stream") from error

    async def _stream(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        """Server-sent events. The first event is awaited before the status is sent, so that a refusal is a real 4xx."""
        async with contextlib.aclosing(exchange.events()) as events:
            first = await anext(events)
            response = web.StreamResponse(headers=SSE_HEADERS)
            await response.prepare(request)
            await response.write(_event(first))
            try:
                async with asyncio.timeout(self._settings.request_timeout):
                    async for event in events:
                        await response.write(_event(event))
                await response.write(b"data: [DONE]\n\n")
            except RequestError as error:
                await response.write(_event(error.body()))
            except TimeoutError:
                await response.write(_event(TimedOut("the answer took too long").body()))
        await response.write_eof()
        return response


def _event(content: Any) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
