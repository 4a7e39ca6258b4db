"""The official client, unmodified, against the server: every endpoint, streamed and whole, and the errors it raises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.runtime.serve.serving import MODEL, Server, serving
from tests.runtime.serve.small_models import save_embedding_model, save_tool_model

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
GREETING = "Hello! Ask me about a town."
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"enum": ["Brinhaven", "Brinford"]},
                "days": {"type": "integer", "minimum": 0, "maximum": 9},
            },
            "required": ["town", "days"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


def client_of(server: Server, key: str = "none") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


async def test_chat_completions(server: Server) -> None:
    async with client_of(server) as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=HELLO, temperature=0, logprobs=True, top_logprobs=2, max_completion_tokens=50
        )
        assert answer.choices[0].message.content == GREETING
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert len(logprobs.content) == answer.usage.completion_tokens
        assert len(logprobs.content[0].top_logprobs) == 2


async def test_streamed_chat_with_usage_and_two_choices(server: Server) -> None:
    async with client_of(server) as client:
        texts = {0: "", 1: ""}
        finishes, usage = {}, None
        stream = await client.chat.completions.create(
            model=MODEL, messages=HELLO, temperature=0, n=2, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                finishes[choice.index] = choice.finish_reason or finishes.get(choice.index)
        assert texts == {0: GREETING, 1: GREETING}
        assert finishes == {0: "stop", 1: "stop"}
        assert usage is not None
        assert usage.completion_tokens == 18


async def test_completions_whole_and_streamed(server: Server) -> None:
    async with client_of(server) as client:
        settings: dict[str, Any] = {"model": MODEL, "prompt": ["Hello", "A"], "temperature": 0, "max_tokens": 6}
        whole = await client.completions.create(**settings, logprobs=1)
        assert whole.choices[0].logprobs is not None
        streamed = {0: "", 1: ""}
        async for chunk in await client.completions.create(**settings, stream=True):
            for choice in chunk.choices:
                streamed[choice.index] += choice.text
        assert [choice.text for choice in whole.choices] == list(streamed.values())
        stopped = await client.completions.create(
            model=MODEL, prompt="Hello", temperature=0.8, seed=4, stop=["e"], presence_penalty=1, frequency_penalty=1
        )
        assert "e" not in stopped.choices[0].text


async def test_models(server: Server) -> None:
    async with client_of(server) as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).owned_by == "kaito"


async def test_an_answer_that_must_fit_a_schema(server: Server) -> None:
    class Town(BaseModel):
        name: str
        mayors: list[str]
        has_river: bool

    async with client_of(server) as client:
        schema = {**Town.model_json_schema(), "additionalProperties": False}
        schema["properties"]["name"]["maxLength"] = 5
        schema["properties"]["mayors"] |= {"maxItems": 2, "items": {"enum": ["Ada", "Brin"]}}
        wanted: Any = {"type": "json_schema", "json_schema": {"name": "town", "schema": schema, "strict": True}}
        for seed in range(4):
            answer = await client.chat.completions.create(
                model=MODEL, messages=HELLO, response_format=wanted, temperature=1.2, seed=seed
            )
            assert answer.choices[0].finish_reason == "stop"
            Town.model_validate_json(answer.choices[0].message.content or "")
        chosen = await client.chat.completions.create(
            model=MODEL, messages=HELLO, extra_body={"structured_outputs": {"choice": ["left", "right"]}}
        )
        assert chosen.choices[0].message.content in ("left", "right")
        with pytest.raises(openai.BadRequestError, match="Invalid type: nonsense"):
            await client.chat.completions.create(
                model=MODEL,
                messages=HELLO,
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
            )


async def test_a_tool_that_must_be_called(tmp_path: Path) -> None:
    """By a model whose template takes tools: required, and by name, whole and streamed."""
    folder = save_tool_model(tmp_path / "model")
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    async with serving(folder=folder) as server, client_of(server) as client:
        for choice, finish in (("required", "tool_calls"), (named, "stop")):
            settings: dict[str, Any] = {
                "model": MODEL, "messages": HELLO, "tools": [WEATHER], "tool_choice": choice, "seed": 3,
                "parallel_tool_calls": False,
            }  # fmt: skip
            answer = (await client.chat.completions.create(**settings)).choices[0]
            assert answer.finish_reason == finish, answer
            assert answer.message.tool_calls
            function: Any = answer.message.tool_calls[0]
            assert function.function.name == "get_weather"
            assert json.loads(function.function.arguments)["town"] in ("Brinhaven", "Brinford")
            pieces: list[Any] = []
            async for chunk in await client.chat.completions.create(**settings, stream=True):
                pieces += chunk.choices[0].delta.tool_calls or []
            assert pieces[0].function.arguments == function.function.arguments
        after = [*HELLO, answer.message.model_dump(exclude_none=True)]
        after.append({"role": "tool", "tool_call_id": function.id, "content": "sunny"})
        more = await client.chat.completions.create(model=MODEL, messages=after, tools=[WEATHER], max_tokens=4)
        assert more.choices[0].message.content is not None


async def test_tools_where_the_template_has_no_place_for_them(server: Server) -> None:
    async with client_of(server) as client:
        with pytest.raises(openai.BadRequestError, match="chat template takes no tools"):
            await client.chat.completions.create(model=MODEL, messages=HELLO, tools=[WEATHER])
        answer = await client.chat.completions.create(
            model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice="none", temperature=0
        )
        assert answer.choices[0].message.content == GREETING


async def test_embeddings(tmp_path: Path, server: Server) -> None:
    async with client_of(server) as client:
        with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
            await client.embeddings.create(model=MODEL, input="Hello")
    folder = save_embedding_model(tmp_path / "model")
    async with serving(folder=folder) as other, client_of(other) as client:
        made = await client.embeddings.create(model=MODEL, input=["Hello", "A town", "Hello"])
        as_floats = await client.embeddings.create(model=MODEL, input="Hello", encoding_format="float")
        assert len(made.data[0].embedding) == 64
        assert sum(x * x for x in made.data[0].embedding) == pytest.approx(1, abs=1e-4)
        assert made.data[0].embedding == made.data[2].embedding != made.data[1].embedding
        assert as_floats.data[0].embedding == pytest.approx(made.data[0].embedding, abs=1e-6)
        assert made.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (openai.NotFoundError, {"model": "other"}),
        (openai.BadRequestError, {"messages": [{"role": "user", "content": "word " * 600}]}),
        (openai.BadRequestError, {"temperature": "hot"}),
        (openai.BadRequestError, {"max_tokens": 100_000}),
        (openai.BadRequestError, {"messages": []}),
    ],
)
async def test_errors_are_the_clients_own(server: Server, kind: Any, changes: dict[str, Any]) -> None:
    async with client_of(server) as client:
        for stream in (False, True):
            with pytest.raises(kind) as caught:
                await client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "stream": stream, **changes})
            assert caught.value.body["message"]
            assert caught.value.type == "invalid_request_error"


async def test_keys_and_a_full_queue_are_the_clients_own_errors() -> None:
    limits = {"max_running": 1, "max_waiting": 1}
    async with serving(api_keys=frozenset({"right"}), limits=limits) as server:
        async with client_of(server, "wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with client_of(server, "right") as client:
            asked = [
                client.completions.create(model=MODEL, prompt="Hello", max_tokens=200, extra_body={"ignore_eos": True})
                for _ in range(6)
            ]
            got = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in got if isinstance(one, openai.RateLimitError)]
    answered = [one for one in got if not isinstance(one, BaseException)]
    assert len(refused) + len(answered) == 6
    assert answered
    assert int(refused[0].response.headers["Retry-After"]) >= 1
