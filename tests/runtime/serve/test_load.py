"""Many clients at once: nobody gets another's answer, the queue is bounded, and a stop loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from kaito.runtime.model.main import find_builtin
from tests.runtime.serve.serving import MODEL, serving
from tests.runtime.serve.small_models import save_adapter

QUESTIONS = [f"Who is the {role} of Brin{end}?" for role in ("mayor", "baker", "doctor") for end in ("haven", "ford")]


async def test_each_request_gets_its_own_adapter(tmp_path: Path) -> None:
    """8 adapters, 48 requests at once, one adapter loaded and unloaded all the while."""
    base = find_builtin(MODEL)
    adapters = {f"a{n}": save_adapter(base, tmp_path / f"a{n}", n) for n in range(8)}
    extra = save_adapter(base, tmp_path / "extra", 99)
    short = {"generate_kwargs": {"max_new_tokens": 10}}
    async with serving(adapters, can_load_adapters=True) as server:
        alone = {(q, name): await server.chat(q, model=name, **short) for q in QUESTIONS for name in adapters}
        assert len({alone[QUESTIONS[0], name] for name in adapters}) == len(adapters)

        async def churn() -> None:
            while True:
                await server.engine.load_adapter("extra", extra, 1.0)
                await server.engine.unload_adapter("extra")

        churning = asyncio.create_task(churn())
        try:
            answers = await asyncio.gather(*(server.chat(q, model=name, **short) for q, name in alone))
        finally:
            churning.cancel()
            await asyncio.gather(churning, return_exceptions=True)
    assert answers == list(alone.values())


async def test_a_full_queue_answers_429_and_the_rest_are_answered_rightly() -> None:
    limits = {"max_running": 4, "max_waiting": 8}
    async with serving(limits=limits) as server:
        expected = {question: await server.chat(question) for question in QUESTIONS}
        asked = [QUESTIONS[n % len(QUESTIONS)] for n in range(120)]
        got = await asyncio.gather(*(server.post("/chat", {"prompt": question}) for question in asked))
        async with server.session.get(server.url + "/metrics") as response:
            metrics = await response.text()
    accepted = [(q, answer["Result"]) for q, (status, answer) in zip(asked, got, strict=True) if status == 200]
    refused = [answer for status, answer in got if status == 429]
    assert len(accepted) + len(refused) == len(asked)
    assert len(accepted) >= limits["max_waiting"]
    assert refused
    assert refused[0]["error"]["code"] == "rate_limit_exceeded"
    assert all(answer == expected[question] for question, answer in accepted)
    assert f"kaito_ratelimit_rejected_total {float(len(refused))}" in metrics


async def test_a_reader_that_does_not_read_stops_nobody() -> None:
    async with serving() as server:
        body = {"prompt": "Hello", "max_tokens": 400, "ignore_eos": True, "stream": True}
        async with server.session.post(server.url + "/v1/completions", json=body) as lazy:
            assert lazy.status == 200
            async with asyncio.timeout(20):
                assert await server.chat("Hello") == "Hello! Ask me about a town."


@pytest.mark.slow
async def test_sigterm_finishes_what_was_accepted(tmp_path: Path) -> None:
    """The real process: eight long answers are under way, SIGTERM comes, all eight arrive whole, the exit code is 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "KAITO_HOST": "127.0.0.1",
        "KAITO_PORT": str(port),
        "KAITO_MODEL_DIR": str(find_builtin(MODEL)),
        "KAITO_PRESET": MODEL,
        "KAITO_TERMINATION_LOG": str(tmp_path / "last-words"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "kaito.runtime.main", "serve"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            assert json.loads(await process.stdout.readline())["event"] == "listening"
            ready = json.loads(await process.stdout.readline())
        assert ready["event"] == "serving"
        url = f"http://127.0.0.1:{port}/v1/completions"
        async with aiohttp.ClientSession() as session:

            async def ask() -> tuple[int, str]:
                body = {"prompt": "Hello", "max_tokens": 200, "ignore_eos": True, "stream": True}
                async with session.post(url, json=body) as response:
                    first = await response.content.readline()
                    started.release()
                    return response.status, (first + await response.read()).decode()

            started = asyncio.Semaphore(0)
            tasks = [asyncio.create_task(ask()) for _ in range(8)]
            for _ in tasks:
                await started.acquire()
            process.send_signal(signal.SIGTERM)
            for status, text in await asyncio.gather(*tasks):
                assert status == 200
                assert '"finish_reason":"length"' in text
                assert text.rstrip().endswith("data: [DONE]")
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
