"""Clients that are not the official one: curl with its defaults, HTTP/1.0 probes, browsers, proxies that compress."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest

from tests.runtime.serve.serving import MODEL, Server, serving

GREETING = "Hello! Ask me about a town."
HELLO = json.dumps({"prompt": "Hello"}).encode()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


async def raw(server: Server, request: bytes) -> bytes:
    """What comes back over a bare socket until the server closes it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


async def test_probes_and_streams_of_http_1_0(server: Server) -> None:
    answer = await raw(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.endswith(b'{"status": "Healthy"}')
    body = json.dumps({"prompt": "Hello", "max_tokens": 5, "stream": True, "temperature": 0}).encode()
    head = f"POST /v1/completions HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = await raw(server, head + body)
    assert b"chunked" not in answer.partition(b"\r\n\r\n")[0].lower()
    assert answer.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},  # what curl -d sends
        {"Content-Type": "text/plain; charset=latin-1"},
        {"Content-Type": "application/json", "Accept": "text/html"},
        {"Expect": "100-continue", "Authorization": "Basic nonsense"},
    ],
)
async def test_headers_that_say_nothing(server: Server, headers: dict[str, str]) -> None:
    async with server.session.post(server.url + "/chat", data=HELLO, headers=headers) as response:
        assert (response.status, await response.json()) == (200, {"Result": GREETING})


async def test_bodies_that_are_compressed_or_claim_to_be(server: Server) -> None:
    packed = {"Content-Encoding": "gzip"}
    async with server.session.post(server.url + "/chat", data=gzip.compress(HELLO), headers=packed) as response:
        assert (await response.json())["Result"] == GREETING
    async with server.session.post(server.url + "/chat", data=b"no gzip at all", headers=packed) as response:
        assert response.status == 400
        assert "cannot be read" in (await response.json())["error"]["message"]


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(server: Server) -> None:
    bomb = gzip.compress(b'{"prompt": "' + b"a" * (20 << 20) + b'"}')
    headers = {"Content-Encoding": "gzip"}
    async with server.session.post(server.url + "/chat", data=bomb, headers=headers) as response:
        assert response.status == 413


async def test_browsers_may_call(server: Server) -> None:
    preflight = {"Origin": "http://ui", "Access-Control-Request-Method": "POST"}
    async with server.session.options(server.url + "/v1/chat/completions", headers=preflight) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    for path in ("/v1/models", "/v1/nothing"):
        async with server.session.get(server.url + path, headers={"Origin": "http://ui"}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_heads_of_what_can_be_got(server: Server) -> None:
    for path in ("/health", "/v1/models", f"/v1/models/{MODEL}"):
        async with server.session.head(server.url + path) as response:
            assert response.status == 200


async def test_its_description_names_what_it_has(server: Server) -> None:
    async with server.session.get(server.url + "/openapi.json") as response:
        document = await response.json()
    assert document["openapi"] == "3.1.0"
    assert {"/chat", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/metrics"} <= document["paths"].keys()
    request = document["components"]["schemas"]["ChatRequest"]
    assert request["required"] == ["messages"]
    assert {"tools", "response_format", "max_completion_tokens"} <= request["properties"].keys()


async def test_tokens_and_back(server: Server) -> None:
    status, made = await server.post("/tokenize", {"prompt": "Hello", "return_token_strs": True})
    assert status == 200
    assert made["count"] == len(made["tokens"]) == len(made["token_strs"])
    assert await server.post("/detokenize", {"tokens": made["tokens"]}) == (200, {"prompt": "Hello"})
    assert (await server.post("/tokenize", {"messages": [{"role": "user", "content": "Hello"}]}))[1]["count"] > 3
    assert (await server.post("/detokenize", {"tokens": [99999]}))[0] == 400
