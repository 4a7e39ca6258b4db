"""The child server and the surface before it, over real processes and sockets, with a stand-in that speaks vLLM."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kaito.runtime.errors import InputError, StepError
from kaito.runtime.progress import Progress
from kaito.runtime.serve.engines.choose import choose_engine, cpu_environment
from kaito.runtime.serve.engines.vllm.server import VllmServer
from kaito.runtime.serve.proxy import ProxySurface
from kaito.runtime.serve.settings import Settings
from kaito.runtime.serve.state import ServerState
from kaito.runtime.step import Step

FAKE = Path(__file__).with_name("fake_vllm.py")


def server_of(tmp_path: Path, behaviour: dict[str, Any], **settings: Any) -> tuple[VllmServer, Settings]:
    """`python` is a program that runs the stand-in with the flags it is given."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    told = Settings("127.0.0.1", 0, tmp_path, "m", settings.pop("default_model", "m"), "vllm", **settings)
    environ = {**os.environ, "FAKE_VLLM": json.dumps(behaviour)}
    return VllmServer(told, environ, has_cuda=False, python=str(program)), told


@dataclass
class Front:
    url: str
    engine: VllmServer
    state: ServerState
    session: aiohttp.ClientSession

    async def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        method = "GET" if body is None else "POST"
        async with self.session.request(method, self.url + path, json=body, headers=headers) as response:
            return response.status, await response.text()


@contextlib.asynccontextmanager
async def fronted(tmp_path: Path, **settings: Any) -> AsyncIterator[Front]:
    engine, told = server_of(tmp_path, {}, **settings)
    state = ServerState()
    runner = web.AppRunner(ProxySurface(engine, told, state, Progress("serve")).application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await engine.start()
        state.phase = "ready"
        async with aiohttp.ClientSession() as session:
            yield Front(f"http://127.0.0.1:{runner.addresses[0][1]}", engine, state, session)
    finally:
        await engine.stop()
        await runner.cleanup()


async def test_it_waits_for_a_slow_start_and_ends_it(tmp_path: Path) -> None:
    engine, _ = server_of(tmp_path, {"delay": 1.0})
    await engine.start()
    assert engine.is_alive
    await engine.stop()
    assert not engine.is_alive


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ({"fail": "api_server.py: error: unrecognized arguments: --x", "code": 2}, InputError, "arguments: --x"),
        ({"fail": "ValueError: larger than the KV cache\nRuntimeError: ended", "code": 1}, InputError, "the KV cache"),
        ({"fail": "RuntimeError: no driver", "code": 1}, StepError, "exit code 1: RuntimeError: no driver"),
    ],
)
async def test_why_it_did_not_start(tmp_path: Path, behaviour: dict[str, Any], kind: Any, words: str) -> None:
    engine, _ = server_of(tmp_path, behaviour)
    with pytest.raises(kind, match=words):
        await engine.start()
    await engine.stop()


async def test_what_is_passed_through_and_what_is_ours(tmp_path: Path) -> None:
    async with fronted(tmp_path, api_keys=frozenset({"k"})) as front:
        key = {"Authorization": "Bearer k"}
        assert (await front.ask("/v1/models"))[0] == 401
        assert json.loads((await front.ask("/v1/models", **key))[1])["data"][0]["id"] == "m"
        status, text = await front.ask("/v1/completions", {"prompt": "a"}, **key)
        assert status == 200
        assert json.loads(json.loads(text)["choices"][0]["text"]) == {"asked": {"prompt": "a"}, "key": None}
        status, text = await front.ask("/v1/completions", {"prompt": "a", "model": "other"}, **key)
        assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")
        metrics = (await front.ask("/metrics"))[1]
        assert "vllm:generation_tokens_total" in metrics
        assert "kaito_ratelimit_rejected_total 0.0" in metrics
        assert (await front.ask("/healthz"))[0] == 200
        assert (await front.ask("/sleep", {}, **key))[0] == 404


async def test_a_request_without_a_model_gets_the_default_one(tmp_path: Path) -> None:
    async with fronted(tmp_path, default_model="tuned") as front:
        for body, model in (({"prompt": "a"}, "tuned"), ({"prompt": "a", "model": "m"}, "m")):
            text = (await front.ask("/v1/completions", body))[1]
            assert json.loads(json.loads(text)["choices"][0]["text"])["asked"]["model"] == model


async def test_chat(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        status, text = await front.ask("/chat", {"prompt": "Hi", "generate_kwargs": {"max_new_tokens": 5}})
        assert status == 200
        asked = json.loads(json.loads(text)["Result"])["asked"]
        assert asked == {
            "model": "m", "prompt": [72, 105], "max_tokens": 5, "temperature": 0.0, "repetition_penalty": 1.0,
            "min_tokens": 0,
        }  # fmt: skip
        cut = {"prompt": "x" * 80, "handle_long_generation": "hole", "generate_kwargs": {"max_new_tokens": 10}}
        asked = json.loads(json.loads((await front.ask("/chat", cut))[1])["Result"])["asked"]
        assert len(asked["prompt"]) == 54
        assert (await front.ask("/chat", {"prompt": "Hi", "model": "other"}))[0] == 404
        assert (await front.ask("/chat", {}))[0] == 400


async def test_adapters_are_not_loaded_at_run_time_on_a_cpu(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        status, text = await front.ask("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/a"})
        assert status == 400
        assert "does not keep apart" in text


async def test_a_full_queue_is_429_and_draining_lets_streams_end(tmp_path: Path) -> None:
    async with fronted(tmp_path, engine_options={"max-num-seqs": 1}, max_waiting=1) as front:
        body = {"prompt": "a", "stream": True, "pause": 1.0}
        streams = [await front.session.post(front.url + "/v1/completions", json=body) for _ in range(2)]
        status, text = await front.ask("/v1/completions", body)
        assert (status, json.loads(text)["error"]["code"]) == (429, "rate_limit_exceeded")
        draining = asyncio.create_task(front.state.drain(10))
        texts = [await stream.text() for stream in streams]
        assert all(text == 'data: {"first": 1}\n\ndata: [DONE]\n\n' for text in texts)
        assert await draining
        assert (await front.ask("/v1/completions", body))[0] == 503


async def test_a_crash_in_a_stream_is_told_and_then_seen(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        text = (await front.ask("/v1/completions", {"prompt": "crash", "stream": True}))[1]
        assert text.startswith('data: {"first": 1}')
        assert '"error"' in text
        assert "[DONE]" not in text
        assert (await front.ask("/v1/models"))[0] == 503
        assert (await front.ask("/health"))[0] == 503
        async with asyncio.timeout(10):
            while front.engine.is_alive:
                await asyncio.sleep(0.01)


def test_what_vllm_is_told_on_a_cpu() -> None:
    step = Step("serve", {"KAITO_THREADS": "1", "KAITO_KV_CACHE_GIB": "2.5"}, Progress("serve"))
    core = min(os.sched_getaffinity(0))
    alone = {"VLLM_CPU_OMP_THREADS_BIND": str(core), "VLLM_CPU_KVCACHE_SPACE": "2"}
    assert cpu_environment({}, step) == alone
    assert cpu_environment({"tensor-parallel-size": 1}, step) == alone
    assert cpu_environment({"tensor-parallel-size": 2}, step) == {"VLLM_CPU_KVCACHE_SPACE": "2"}


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_that_is_not_installed_is_said(tmp_path: Path) -> None:
    settings = Settings("127.0.0.1", 0, tmp_path, "m", "m", "vllm")
    with pytest.raises(InputError, match="vllm is not installed") as refused:
        choose_engine(settings, Step("serve", {}, Progress("serve")))
    assert "install vllm" in refused.value.hint


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_the_image_says_which_interpreter_has_vllm(tmp_path: Path) -> None:
    python = tmp_path / "python"
    settings = Settings("127.0.0.1", 0, tmp_path, "m", "m", "vllm")
    step = Step("serve", {"KAITO_VLLM_PYTHON": str(python)}, Progress("serve"))
    with pytest.raises(InputError, match="vllm is not installed"):
        choose_engine(settings, step)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    engine = choose_engine(settings, step)
    assert isinstance(engine, VllmServer)
    assert engine.command[0] == str(python)
