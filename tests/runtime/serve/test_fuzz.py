"""Requests made up from the server's own description: whatever comes, no answer is a server error.

`make test` sends some hundreds, `make soak` five thousand.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tests.runtime.serve.serving import serving

LIMITS = {"max_running": 16, "max_waiting": 64}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server in a thread of its own, because the fuzzer is synchronous."""
    ready: Any = threading.Event()
    told: dict[str, Any] = {}

    async def serve() -> None:
        stop = asyncio.Event()
        async with serving(limits=LIMITS, can_load_adapters=True) as server:
            told.update(url=server.url, loop=asyncio.get_running_loop(), stop=stop)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(120)
    yield told["url"]
    told["loop"].call_soon_threadsafe(told["stop"].set)
    thread.join(60)


def fuzz(url: str, each: int) -> int:
    """`each` made-up requests for every operation, right and wrong ones; returns how many were sent."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    sent = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=each,
            database=None,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            nonlocal sent
            sent += 1
            _keep_small(case)
            response = case.call(timeout=60)
            assert response.status_code < 500, (case.as_curl_command(), response.text)
            if response.status_code >= 400 and response.content:
                assert response.json()["error"]["message"]

        ask()
    return sent


def _keep_small(case: Any) -> None:
    """Answers of a few tokens: what is looked for is in the requests."""
    if isinstance(case.body, dict):
        for key in ("max_tokens", "max_completion_tokens"):
            if isinstance(case.body.get(key), int) and case.body[key] > 4:
                case.body[key] = 4
        if "completions" in case.path:
            case.body.setdefault("max_tokens", 2)
        if case.path == "/chat" and "generate_kwargs" not in case.body:
            case.body["generate_kwargs"] = {"max_new_tokens": 2}


def test_made_up_requests_find_no_server_error(url: str) -> None:
    assert fuzz(url, 25) >= 100


@pytest.mark.soak
def test_five_thousand_made_up_requests_find_no_server_error(url: str) -> None:
    assert fuzz(url, 700) >= 5000
