"""`POST /chat` over an engine that is an OpenAI server: the same request and the same rules as `chat`.

The prompt is made into tokens first (vLLM's /tokenize, through the model's chat template), so that lengths are known
and cut as the built-in engine cuts them; the tokens then go to /v1/completions.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from kaito.runtime.serve.chat import (
    DEFAULTS,
    MESSAGES_REQUIRED,
    PROMPT_REQUIRED,
    ChatDefaults,
    GenerateKwargs,
    KaitoChatRequest,
    cut_prompt,
    generate_kwargs,
    new_tokens,
)
from kaito.runtime.serve.errors import InvalidRequest, RequestError
from kaito.runtime.serve.requests import ChatRequest, check_chat, decode
from kaito.runtime.serve.settings import Settings

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


class Tokenized(msgspec.Struct):
    tokens: list[int]
    max_model_len: int


class Choice(msgspec.Struct):
    text: str


class Completion(msgspec.Struct):
    choices: list[Choice]


class RemoteChat:
    """`session` speaks to the engine; `default_model` answers when a request names none."""

    def __init__(self, session: aiohttp.ClientSession, default_model: str, settings: Settings) -> None:
        self._session = session
        self._default = default_model
        self._defaults = DEFAULTS[settings.chat_defaults]
        self._has_template = self._defaults.uses_template and has_chat_template(settings)

    async def answer(self, content: bytes) -> dict[str, str]:
        """`{"Result": text}`. Raises RequestError."""
        request: KaitoChatRequest = decode(content or b"{}", KaitoChatRequest)
        kwargs = generate_kwargs(request.generate_kwargs or {})
        if request.clean_up_tokenization_spaces:
            raise InvalidRequest("clean_up_tokenization_spaces is not built into the vllm engine; leave it out")
        model = request.model or self._default
        shown, asked = self._prompt(request)
        read = msgspec.json.decode(await self._post("/tokenize", {"model": model, **asked}), type=Tokenized)
        limit = new_tokens(kwargs, len(read.tokens), read.max_model_len)
        prompt = cut_prompt(request, read.tokens, limit, read.max_model_len)
        body = {"model": model, "prompt": prompt, "max_tokens": limit, **_sampling(kwargs, len(prompt), self._defaults)}
        made = msgspec.json.decode(await self._post("/v1/completions", body), type=Completion)
        text = made.choices[0].text
        return {"Result": shown + text if self._defaults.full_text(request) else text}

    def _prompt(self, request: KaitoChatRequest) -> tuple[str, dict[str, Any]]:
        """The prompt as the user wrote it, and what /tokenize is asked."""
        if request.prompt:
            text = (request.prefix or "") + request.prompt
            return text, {"messages": [{"role": "user", "content": text}]} if self._has_template else {"prompt": text}
        if request.messages:
            check_chat(ChatRequest(messages=request.messages))
            shown = "".join(f"{one['role']}: {one['content']}\n" for one in request.messages)
            return shown, {"messages": request.messages}
        if request.messages is not None and request.prompt is None:
            raise InvalidRequest(MESSAGES_REQUIRED, "messages")
        raise InvalidRequest(PROMPT_REQUIRED, "prompt")

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        async with self._session.post(path, data=msgspec.json.encode(body), headers=headers) as response:
            content = await response.read()
            if response.status != 200:
                raise _passed_on(response.status, content)
            return content


def has_chat_template(settings: Settings) -> bool:
    """Whether the model's folder, or the user, brings a chat template."""
    if settings.engine_options.get("chat-template"):
        return True
    if any((settings.model_dir / name).is_file() for name in TEMPLATE_FILES):
        return True
    try:
        config = msgspec.json.decode((settings.model_dir / "tokenizer_config.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))


def _sampling(kwargs: GenerateKwargs, prompt: int, defaults: ChatDefaults) -> dict[str, Any]:
    """vLLM's names for what generate is told."""
    ends = kwargs.eos_token_id
    wanted: dict[str, Any] = {
        "temperature": defaults.temperature(kwargs),
        "repetition_penalty": kwargs.repetition_penalty,
        "min_tokens": max(kwargs.min_new_tokens, kwargs.min_length - prompt, 0),
        "seed": kwargs.seed,
        "stop_token_ids": [ends] if isinstance(ends, int) else ends,
        "stop": kwargs.stop_strings,
    }
    if wanted["temperature"]:
        wanted |= {"top_p": kwargs.top_p, "top_k": kwargs.top_k, "min_p": kwargs.min_p}
    return {key: value for key, value in wanted.items() if value is not None}


def _passed_on(status: int, content: bytes) -> RequestError:
    """The engine's refusal with its status and words."""
    try:
        body = msgspec.json.decode(content)
        error = body.get("error", body)
        message = str(error["message"])
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
        message = content.decode("utf-8", "replace")[:500] or "the engine failed"
    raised = RequestError(message)
    raised.status = status
    raised.kind = "invalid_request_error" if status < 500 else "server_error"
    return raised
