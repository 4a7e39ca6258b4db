"""`/tokenize` and `/detokenize`, as vLLM has them: what a text costs, before it is sent."""

from __future__ import annotations

from typing import Any

import msgspec

from kaito.runtime.serve.engines.base import Engine
from kaito.runtime.serve.errors import InvalidRequest
from kaito.runtime.serve.openai import OpenAI
from kaito.runtime.serve.requests import ChatRequest, check_chat, check_tokens, decode


class TokenizeRequest(msgspec.Struct):
    """Either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct):
    tokens: list[int]
    model: str | None = None


class Tokens:
    def __init__(self, engine: Engine, openai: OpenAI) -> None:
        self._engine = engine
        self._openai = openai

    def tokenize(self, content: bytes) -> dict[str, Any]:
        """Raises RequestError."""
        request: TokenizeRequest = decode(content, TokenizeRequest)
        self._openai.model_of(request.model)
        vocabulary = self._engine.vocabulary
        if request.messages is not None:
            check_chat(ChatRequest(messages=request.messages))
            ids = vocabulary.encode_chat(request.messages, {})
        elif request.prompt is not None:
            ids = vocabulary.encode(request.prompt)
        else:
            raise InvalidRequest("neither prompt nor messages is given", "prompt")
        names = [vocabulary.token_bytes(one).decode("utf-8", "replace") for one in ids]
        return {
            "count": len(ids),
            "max_model_len": self._engine.context_length,
            "tokens": ids,
            "token_strs": names if request.return_token_strs else None,
        }

    def detokenize(self, content: bytes) -> dict[str, Any]:
        """Raises RequestError."""
        request: DetokenizeRequest = decode(content, DetokenizeRequest)
        self._openai.model_of(request.model)
        vocabulary = self._engine.vocabulary
        ids = check_tokens(request.tokens, vocabulary.size, "tokens")
        return {"prompt": vocabulary.decode(ids, skip_special=False)}
