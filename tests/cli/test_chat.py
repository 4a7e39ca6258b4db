"""`kaito chat`: a real model server behind an API server that knows one pod and its proxy path."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kaito.cli.chat import Pace, converse
from kaito.cli.errors import CommandError
from kaito.kube.client import Client
from tests.runtime.serve.serving import Server, serving

GREETING = "Hello! Ask me about a town."


@contextlib.asynccontextmanager
async def behind_an_api(server: Server, folder: Path, asked: list[Any]) -> AsyncIterator[Client]:
    async def pods(request: web.Request) -> web.Response:
        pod = {
            "metadata": {"name": "one", "namespace": "default", "labels": {"kaito.sh/role": "serve"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]})

    async def proxy(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
        async with server.session.post(server.url + "/v1/chat/completions", json=body) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/default/pods", pods)
    app.router.add_post("/api/v1/namespaces/default/pods/one:5000/proxy/v1/chat/completions", proxy)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = folder / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    try:
        async with Client.connect(kubeconfig) as client:
            yield client
    finally:
        await runner.cleanup()


async def talk(client: Client, questions: list[str], *, is_watched: bool = True) -> tuple[str, list[str]]:
    shown: list[str] = []
    told: list[str] = []
    waiting = iter(questions)
    tell = told.append if is_watched else None
    await converse(client, "default", "ws", lambda: next(waiting, None), shown.append, {"temperature": 0}, tell)
    return "".join(shown), told


async def test_a_conversation_is_kept_and_its_pace_is_told(tmp_path: Path) -> None:
    asked: list[Any] = []
    async with serving() as server, behind_an_api(server, tmp_path, asked) as client:
        text, told = await talk(client, ["Hello", "  ", "Hello"])
    assert text.startswith(GREETING + "\n")
    assert [message["content"] for message in asked[1]["messages"][:2]] == ["Hello", GREETING]
    assert len(asked) == 2
    assert told[0].startswith("9 tokens, first after ")
    assert told[0].endswith(" tokens/s")


async def test_a_question_that_fails_does_not_end_the_conversation(tmp_path: Path) -> None:
    asked: list[Any] = []
    async with serving() as server, behind_an_api(server, tmp_path, asked) as client:
        text, told = await talk(client, ["Hello", "word " * 600, "Hello"])
        assert "the model's context holds 512 tokens" in told[1]
        assert text.count("\n") == 2
        assert len(asked[2]["messages"]) == 3
        with pytest.raises(CommandError, match="the model's context holds 512 tokens"):
            await talk(client, ["word " * 600], is_watched=False)


def test_the_pace_of_an_answer() -> None:
    times = iter([10.0, 10.5, 11.0, 12.5])
    pace = Pace(clock=lambda: next(times))
    pace.asked = pace.clock()
    for _ in range(3):
        pace.piece()
    assert pace.words() == ""
    pace.tokens = 21
    assert pace.words() == "21 tokens, first after 0.5 s, then 10.0 tokens/s"
