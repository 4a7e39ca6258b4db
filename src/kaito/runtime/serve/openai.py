"""`/v1/chat/completions` and `/v1/completions`, with streaming. Source of the shapes: OpenAI's API reference."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from kaito.runtime.serve.answers import Answer, Answers, Piece, Wanted
from kaito.runtime.serve.engines.base import Engine, Form, Guide, Token, Vocabulary
from kaito.runtime.serve.errors import InvalidRequest, ModelNotFound
from kaito.runtime.serve.requests import (
    MAX_CHOICES,
    ChatRequest,
    Common,
    CompletionRequest,
    Served,
    chat_options,
    check_chat,
    decode,
    sampling_of,
    token_lists,
)
from kaito.runtime.serve.tools import Call, Tools, ToolStream, tools_of

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's own default of /v1/completions

Event = dict[str, Any]


class Shape(Protocol):
    """How one endpoint writes its answers."""

    def choice(self, index: int, answer: Answer) -> Event: ...

    def opening(self, index: int) -> Event | None:
        """A first chunk before any text, where the endpoint has one."""

    def chunk(self, index: int, piece: Piece) -> Event | None:
        """None while there is nothing to show."""


class OpenAI:
    """The two endpoints over one engine. `default_model` answers when a request names none."""

    def __init__(self, engine: Engine, answers: Answers, default_model: str) -> None:
        self._engine = engine
        self._answers = answers
        self._default = default_model

    def chat(self, content: bytes) -> Exchange:
        """Raises RequestError."""
        request: ChatRequest = decode(content, ChatRequest)
        model = self.model_of(request.model)
        check_chat(request)
        vocabulary = self._engine.vocabulary
        tools = tools_of(request.tools, request.tool_choice, request.parallel_tool_calls, vocabulary.chat_template)
        prompt = tuple(vocabulary.encode_chat(request.messages, chat_options(request, tools)))
        logprobs = (request.top_logprobs or 0) if request.logprobs else None
        limit = request.max_completion_tokens or request.max_tokens
        guide = self._guide((tools.form() if tools else None) or request.form)
        wanted = [
            self._wanted(request, model, prompt, limit, logprobs, n, guide, keeps_special=tools is not None)
            for n in range(request.n or 1)
        ]
        return Exchange(self._answers, request, wanted, "chat.completion", ChatShape(vocabulary, logprobs, tools))

    def completion(self, content: bytes) -> Exchange:
        """Raises RequestError."""
        request: CompletionRequest = decode(content, CompletionRequest)
        model = self.model_of(request.model)
        if request.suffix:
            raise InvalidRequest("suffix is not built into this engine; leave it out", "suffix")
        if request.best_of not in (None, 1, request.n):
            raise InvalidRequest("best_of is not built into this engine; use n", "best_of")
        if request.max_tokens == 0:
            raise InvalidRequest("max_tokens is 0; ask for at least one token", "max_tokens")
        if request.echo and request.logprobs is not None:
            raise InvalidRequest("logprobs of the prompt are not built; leave echo or logprobs out", "echo")
        vocabulary = self._engine.vocabulary
        prompts = token_lists(request.prompt, vocabulary, "prompt", MAX_CHOICES)
        if len(prompts) * (request.n or 1) > MAX_CHOICES:
            raise InvalidRequest(f"prompts times n are more than {MAX_CHOICES}", "n")
        if any(not prompt for prompt in prompts):
            raise InvalidRequest("prompt is empty; give at least one token", "prompt")
        limit = DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens
        guide = self._guide(request.form)
        wanted = [
            self._wanted(request, model, prompt, limit, request.logprobs, n, guide)
            for prompt in prompts
            for n in range(request.n or 1)
        ]
        echoes = [vocabulary.decode(one.prompt) if request.echo else "" for one in wanted]
        return Exchange(
            self._answers, request, wanted, "text_completion", TextShape(vocabulary, request.logprobs, echoes)
        )

    def model_of(self, name: str | None) -> str:
        """The model to answer. Raises ModelNotFound."""
        known = [model.name for model in self._engine.models()]
        chosen = name or self._default
        if chosen not in known:
            raise ModelNotFound(chosen, known)
        return chosen

    def _guide(self, form: Form | None) -> Guide | None:
        return None if form is None else self._engine.vocabulary.guide(form)

    def _wanted(
        self,
        request: Common,
        model: str,
        prompt: tuple[int, ...],
        limit: int | None,
        logprobs: int | None,
        n: int,
        guide: Guide | None,
        keeps_special: bool = False,
    ) -> Wanted:
        engine = self._engine
        served = Served(engine.context_length, engine.vocabulary.size, engine.sampling_defaults)
        sampling = sampling_of(request, served, prompt, wanted=limit, logprobs=logprobs, choice=n, guide=guide)
        return Wanted(model, prompt, sampling, request.stops, bool(request.include_stop_str_in_output), keeps_special)


class Exchange:
    """One request that was understood: answer it whole, or as events."""

    def __init__(self, answers: Answers, request: Common, wanted: Sequence[Wanted], kind: str, shape: Shape) -> None:
        self._answers = answers
        self._request = request
        self._wanted = wanted
        self._kind = kind
        self._shape = shape
        self._id = ("chatcmpl-" if kind == "chat.completion" else "cmpl-") + uuid.uuid4().hex
        self._created = int(time.time())

    @property
    def is_streamed(self) -> bool:
        return bool(self._request.stream)

    async def whole(self) -> Event:
        answers = await self._answers.all(self._wanted)
        produced = sum(len(answer.tokens) for answer in answers)
        choices = [self._shape.choice(index, answer) for index, answer in enumerate(answers)]
        return {**self._head(self._kind), "choices": choices, "usage": self._usage(produced)}

    async def events(self) -> AsyncGenerator[Event, None]:
        kind = "chat.completion.chunk" if self._kind == "chat.completion" else self._kind
        head = self._head(kind)
        produced = 0
        opened: set[int] = set()
        async with contextlib.aclosing(self._answers.merged(self._wanted)) as pieces:
            async for index, piece in pieces:
                opening = None if index in opened else self._shape.opening(index)
                opened.add(index)
                if opening is not None:
                    yield {**head, "choices": [opening]}
                produced += len(piece.tokens)
                chunk = self._shape.chunk(index, piece)
                if chunk is not None:
                    yield {**head, "choices": [chunk]}
        options = self._request.stream_options
        if options is not None and options.include_usage:
            yield {**head, "choices": [], "usage": self._usage(produced)}

    def _head(self, kind: str) -> Event:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._wanted[0].model}

    def _usage(self, produced: int) -> Event:
        read = sum(len(prompt) for prompt in {one.prompt for one in self._wanted})
        return {"prompt_tokens": read, "completion_tokens": produced, "total_tokens": read + produced}


class ChatShape:
    def __init__(self, vocabulary: Vocabulary, logprobs: int | None, tools: Tools | None) -> None:
        self._vocabulary = vocabulary
        self._wants_logprobs = logprobs is not None
        self._tools = tools
        self._streams: dict[int, ToolStream] = {}

    def choice(self, index: int, answer: Answer) -> Event:
        content, calls = (answer.text, []) if self._tools is None else self._tools.read(answer.text)
        message: Event = {"role": "assistant", "content": content or (None if calls else "")}
        if calls:
            message["tool_calls"] = [call.as_dict() for call in calls]
        return {**self._base(index, answer.tokens, self._finish(answer.finish, calls)), "message": message}

    def opening(self, index: int) -> Event | None:
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def chunk(self, index: int, piece: Piece) -> Event | None:
        text, calls = piece.text, list[Call]()
        if self._tools is not None:
            stream = self._streams.setdefault(index, ToolStream(self._tools))
            text = stream.push(text)
            if piece.finish:
                rest, calls = stream.finish()
                text += rest
        delta: Event = {"content": text} if text else {}
        if calls:
            delta["tool_calls"] = [{"index": place, **call.as_dict()} for place, call in enumerate(calls)]
        if not delta and not piece.finish and not self._wants_logprobs:
            return None
        return {**self._base(index, piece.tokens, self._finish(piece.finish, calls)), "delta": delta}

    def _finish(self, finish: str | None, calls: Sequence[Call]) -> str | None:
        """A named function is what was asked for, so that its answer just stops; OpenAI has it so."""
        is_call = bool(calls) and finish == "stop" and self._tools is not None and self._tools.mode != "named"
        return "tool_calls" if is_call else finish

    def _base(self, index: int, tokens: Sequence[Token], finish: str | None) -> Event:
        logprobs = {"content": [self._logprob(token) for token in tokens]} if self._wants_logprobs else None
        return {"index": index, "logprobs": logprobs, "finish_reason": finish}

    def _logprob(self, token: Token) -> Event:
        top = [self._entry(id_, logprob) for id_, logprob in token.top]
        return {**self._entry(token.id, token.logprob or 0.0), "top_logprobs": top}

    def _entry(self, id_: int, logprob: float) -> Event:
        content = self._vocabulary.token_bytes(id_)
        return {"token": content.decode("utf-8", "replace"), "logprob": _finite(logprob), "bytes": list(content)}


class TextShape:
    def __init__(self, vocabulary: Vocabulary, logprobs: int | None, echoes: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._wants_logprobs = logprobs is not None
        self._echoes = echoes

    def choice(self, index: int, answer: Answer) -> Event:
        return self._choice(index, answer.tokens, answer.finish, self._echoes[index] + answer.text)

    def opening(self, index: int) -> Event | None:
        echo = self._echoes[index]
        return {"index": index, "text": echo, "logprobs": None, "finish_reason": None} if echo else None

    def chunk(self, index: int, piece: Piece) -> Event | None:
        if not piece.text and not piece.finish and not self._wants_logprobs:
            return None
        return self._choice(index, piece.tokens, piece.finish, piece.text)

    def _choice(self, index: int, tokens: Sequence[Token], finish: str | None, text: str) -> Event:
        logprobs = self._logprobs(tokens) if self._wants_logprobs else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, tokens: Sequence[Token]) -> Event:
        names = [self._name(token.id) for token in tokens]
        offsets, place = [], 0
        for name in names:
            offsets.append(place)
            place += len(name)
        return {
            "tokens": names,
            "token_logprobs": [_finite(token.logprob or 0.0) for token in tokens],
            "top_logprobs": [{self._name(id_): _finite(value) for id_, value in token.top} for token in tokens],
            "text_offset": offsets,
        }

    def _name(self, id_: int) -> str:
        return self._vocabulary.token_bytes(id_).decode("utf-8", "replace")


def model_list(engine: Engine, created: int) -> Mapping[str, Any]:
    """`/v1/models`, with vLLM's additions (root, parent, max_model_len)."""
    data = [
        {
            "id": model.name,
            "object": "model",
            "created": created,
            "owned_by": "kaito",
            "root": model.root,
            "parent": model.parent,
            "max_model_len": engine.context_length,
        }
        for model in engine.models()
    ]
    return {"object": "list", "data": data}


def _finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI writes -9999.0 for what cannot happen."""
    return max(logprob, -9999.0)
