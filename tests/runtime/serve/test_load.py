"""Many clients at once: nobody gets another's answer, the queue is bounded, and a stop loses nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from kaito.runtime.model.main import find_builtin
from tests.runtime.serve.process import server_process
from tests.runtime.serve.serving import MODEL, serving
from tests.runtime.serve.small_models import save_adapter

QUESTIONS = [f"Who is the {role} of Brin{end}?" for role in ("mayor", "baker", "doctor") for end in ("haven", "ford")]


async def test_each_request_gets_its_own_adapter(tmp_path: Path) -> None:
    """8 adapters, 64 requests at once, others loaded and unloaded all the while."""
    base = find_builtin(MODEL)
    adapters = {f"a{n}": save_adapter(base, tmp_path / f"a{n}", n) for n in range(8)}
    extra = save_adapter(base, tmp_path / "extra", 99)
    short = {"generate_kwargs": {"max_new_tokens": 10}}
    async with serving(adapters, can_load_adapters=True) as server:
        questions = [*QUESTIONS, "Hello", "Who are you?"]
        alone = {(q, name): await server.chat(q, model=name, **short) for q in questions for name in adapters}
        assert len({alone[QUESTIONS[0], name] for name in adapters}) == len(adapters)

        async def churn() -> None:
            """Also one of the eight, under its own name: requests that name it are answered by it all the same."""
            while True:
                await server.engine.load_adapter("extra", extra, 1.0)
                await server.engine.load_adapter("a3", adapters["a3"], 1.0)
                await server.engine.unload_adapter("extra")

        churning = asyncio.create_task(churn())
        try:
            answers = await asyncio.gather(*(server.chat(q, model=name, **short) for q, name in alone))
        finally:
            churning.cancel()
            await asyncio.gather(churning, return_exceptions=True)
    assert answers == list(alone.values())


async def test_a_full_queue_answers_429_and_the_rest_are_answered_rightly() -> None:
    """More at once than run and wait: exactly those are answered, each with its own answer, and the others are told."""
    limits = {"max_running": 4, "max_waiting": 8}
    async with serving(limits=limits) as server:
        expected = {n: await server.post("/v1/completions", numbered(n)) for n in range(60)}
        got = await asyncio.gather(*(server.post("/v1/completions", numbered(n)) for n in expected))
        async with server.session.get(server.url + "/metrics") as response:
            metrics = await response.text()
    accepted = {n: answer for n, (status, answer) in enumerate(got) if status == 200}
    refused = [answer for status, answer in got if status == 429]
    # Those at work may end while the last ones come, and let some more in.
    assert len(refused) + len(accepted) == 60
    assert 12 <= len(accepted) < 60
    assert refused[0]["error"]["code"] == "rate_limit_exceeded"
    for number, answer in accepted.items():
        assert answer["choices"][0]["text"] == expected[number][1]["choices"][0]["text"]
    assert f"kaito_ratelimit_rejected_total {float(len(refused))}" in metrics


def numbered(number: int) -> dict[str, Any]:
    """A request whose answer is its own: a sampled one, from a seed."""
    return {"prompt": "Hello", "max_tokens": 16, "ignore_eos": True, "seed": number, "temperature": 1.0}


@pytest.mark.soak
async def test_five_hundred_clients_at_a_queue_of_64(tmp_path: Path) -> None:
    """The real process: exactly 32 + 64 are answered, 404 refused, nobody gets another's answer, memory stays."""
    async with server_process(tmp_path, KAITO_MAX_WAITING="64") as server, clients() as session:

        async def ask(number: int) -> tuple[int, str, str]:
            body = {**numbered(number), "max_tokens": 300}
            async with session.post(f"{server.url}/v1/completions", json=body) as response:
                answer = await response.json()
                text = answer["choices"][0]["text"] if response.status == 200 else ""
                return response.status, text, response.headers.get("Retry-After", "")

        alone = {number: (await ask(number))[1] for number in range(0, 500, 50)}
        process = psutil.Process(server.process.pid)
        resident = []
        for _ in range(3):
            began = time.monotonic()
            answers = await asyncio.gather(*(ask(number) for number in range(500)))
            resident.append(process.memory_info().rss)
            statuses = Counter(status for status, _, _ in answers)
            print(statuses, f"{time.monotonic() - began:.1f} s, {resident[-1] >> 20} MiB")
            assert statuses == {200: 96, 429: 404}
            assert all(int(wait) >= 1 for status, _, wait in answers if status == 429)
            texts = [text for status, text, _ in answers if status == 200]
            assert len(set(texts)) == 96
            assert all(answers[number][1] in ("", text) for number, text in alone.items())
        assert resident[-1] < resident[0] + (64 << 20)


async def test_clients_that_leave_and_clients_that_do_not_read_cost_nobody_else_anything() -> None:
    limits = {"max_running": 8, "max_waiting": 64}
    body = {"prompt": "Hello", "max_tokens": 450, "ignore_eos": True, "stream": True}
    async with serving(limits=limits) as server:
        expected = (await server.post("/v1/completions", numbered(1)))[1]["choices"][0]["text"]
        lazy = [await server.session.post(server.url + "/v1/completions", json=body) for _ in range(3)]

        async def leave() -> None:
            async with server.session.post(server.url + "/v1/completions", json=body) as response:
                await response.content.readline()
                response.close()

        async with asyncio.timeout(60):
            answers = await asyncio.gather(
                *(leave() for _ in range(24)), *(server.post("/v1/completions", numbered(1)) for _ in range(12))
            )
            assert all(answer[1]["choices"][0]["text"] == expected for answer in answers if answer is not None)
            for response in lazy:
                response.close()
            while server.engine.stats().running or server.state.active:
                await asyncio.sleep(0.01)


async def test_a_reader_that_does_not_read_stops_nobody() -> None:
    async with serving() as server:
        body = {"prompt": "Hello", "max_tokens": 400, "ignore_eos": True, "stream": True}
        async with server.session.post(server.url + "/v1/completions", json=body) as lazy:
            assert lazy.status == 200
            async with asyncio.timeout(20):
                assert await server.chat("Hello") == "Hello! Ask me about a town."


@pytest.mark.slow
async def test_sigterm_finishes_what_was_accepted(tmp_path: Path) -> None:
    """The real process under load: what runs and what waits arrives whole, and the exit code is 0."""
    async with server_process(tmp_path, KAITO_MAX_WAITING="64") as server, clients() as session:

        async def ask() -> tuple[int, str]:
            body = {"prompt": "Hello", "max_tokens": 200, "ignore_eos": True, "stream": True}
            async with session.post(f"{server.url}/v1/completions", json=body) as response:
                text = (await response.read()).decode()
                return response.status, text

        tasks = [asyncio.create_task(ask()) for _ in range(60)]
        async with asyncio.timeout(60):
            while waiting(await text_of(session, server.url)) < 28:  # 32 of the 60 run
                await asyncio.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        for status, text in await asyncio.gather(*tasks):
            assert status == 200
            assert '"finish_reason":"length"' in text
            assert text.rstrip().endswith("data: [DONE]")
        assert await server.ended() == 0


@pytest.mark.slow
async def test_while_the_nodes_hear_of_its_end_it_still_answers(tmp_path: Path) -> None:
    async with server_process(tmp_path, KAITO_LINGER="5") as server, clients() as session:
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while True:
                async with session.get(f"{server.url}/health") as response:
                    if response.status == 503:
                        break
        async with session.post(f"{server.url}/chat", json={"prompt": "Hello"}) as response:
            assert response.status == 200
        assert await server.ended() == 0


def waiting(metrics: str) -> float:
    line = next(line for line in metrics.splitlines() if line.startswith("vllm:num_requests_waiting{"))
    return float(line.rpartition(" ")[2])


async def text_of(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/metrics") as response:
        return await response.text()


def clients() -> aiohttp.ClientSession:
    """As many connections at once as there are requests."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=300))
