"""`/v1/embeddings`, for models that were made for it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from kaito.runtime.serve.engines.base import Engine
from kaito.runtime.serve.errors import InvalidRequest
from kaito.runtime.serve.openai import OpenAI
from kaito.runtime.serve.requests import decode, token_lists

MAX_INPUTS = 2048  # OpenAI's own limit


class EmbeddingRequest(msgspec.Struct):
    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class Embeddings:
    def __init__(self, engine: Engine, openai: OpenAI) -> None:
        self._engine = engine
        self._openai = openai

    async def answer(self, content: bytes) -> dict[str, Any]:
        """Raises RequestError."""
        request: EmbeddingRequest = decode(content, EmbeddingRequest)
        model = self._openai.model_of(request.model)
        size = self._engine.embedding_size
        if not size:
            raise InvalidRequest(
                f"{model} writes texts and makes no embeddings; serve an embedding model (one with a Pooling module)",
                "model",
            )
        if request.dimensions not in (None, size):
            raise InvalidRequest(f"dimensions is {request.dimensions}; this model's vectors have {size}", "dimensions")
        inputs = token_lists(request.input, self._engine.vocabulary, "input", MAX_INPUTS)
        most = self._engine.context_length
        for place, one in enumerate(inputs):
            if not 0 < len(one) <= most:
                raise InvalidRequest(f"input {place} has {len(one)} tokens; 1 to {most} are taken", "input")
        vectors = await self._engine.embed(model, inputs)
        as_text = request.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if as_text else vector}
            for index, vector in enumerate(vectors)
        ]
        read = sum(map(len, inputs))
        return {
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": read, "total_tokens": read},
        }


def _packed(vector: Sequence[float]) -> str:
    """OpenAI's base64: float32, the lowest byte first."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
