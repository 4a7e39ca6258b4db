"""vLLM itself behind the surface, where it is installed: in this environment, or in the one of KAITO_VLLM_PYTHON.

One server for all tests: it takes a minute to start on a CPU.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from kaito.runtime.model.main import find_builtin
from tests.runtime.serve.process import ServerProcess, server_process
from tests.runtime.serve.small_models import save_adapter

HAS_VLLM = "KAITO_VLLM_PYTHON" in os.environ or importlib.util.find_spec("vllm") is not None
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed, and KAITO_VLLM_PYTHON names no interpreter"),
    pytest.mark.asyncio(loop_scope="module"),
]
MODEL = "tiny-phi-3"
ADAPTERS = ("red", "blue")


@dataclass
class Served:
    process: ServerProcess
    client: openai.AsyncOpenAI

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.post(self.process.url + path, json=body) as response:
            return response.status, await response.json()

    async def complete(self, model: str, **more: Any) -> str:
        given = {"prompt": "Who is the mayor of Brinhaven?", "max_tokens": 8, "temperature": 0, **more}
        given["extra_body"] = {"ignore_eos": True}
        answer = await self.client.completions.create(model=model, **given)
        return answer.choices[0].text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    root = tmp_path_factory.mktemp("vllm")
    base = find_builtin(MODEL)
    adapters = root / "adapters"
    for seed, name in enumerate(ADAPTERS):
        save_adapter(base, adapters / name, seed)
    config = root / "inference_config.yaml"
    config.write_text("vllm:\n  max-model-len: 128\n  enforce-eager: true\n  dtype: float32\n")
    environ = {
        "KAITO_ENGINE": "vllm",
        "KAITO_MODEL_DIR": str(base),
        "KAITO_PRESET": MODEL,
        "KAITO_CONFIG": str(config),
        "KAITO_ADAPTERS_DIR": str(adapters),
        "KAITO_KV_CACHE_GIB": "1",
    }
    async with server_process(root, starts_within=300, **environ) as process:
        client = openai.AsyncOpenAI(base_url=f"{process.url}/v1", api_key="none", max_retries=0)
        yield Served(process, client)
        await client.close()


async def test_the_base_and_the_adapter_answer_each_for_itself(served: Served) -> None:
    names = [MODEL, *ADAPTERS]
    assert {model.id async for model in await served.client.models.list()} == set(names)
    alone = {model: await served.complete(model) for model in names}
    assert len(set(alone.values())) == len(names)
    names *= 4
    together = await asyncio.gather(*(served.complete(name) for name in names))
    assert together == [alone[name] for name in names]


async def test_streams_chat_and_metrics(served: Served) -> None:
    stream = await served.client.completions.create(
        model=MODEL,
        prompt="Who is the mayor",
        max_tokens=6,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    streamed = "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])
    assert streamed == await served.complete(MODEL, prompt="Who is the mayor", max_tokens=6)
    status, answer = await served.post(
        "/chat", {"prompt": "Who is the mayor?", "generate_kwargs": {"max_new_tokens": 4}}
    )
    assert status == 200
    assert isinstance(answer["Result"], str)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{served.process.url}/metrics") as response:
            assert "vllm:generation_tokens_total" in await response.text()
        async with session.get(f"{served.process.url}/health") as response:
            assert response.status == 200


async def test_bad_input_is_said_in_openais_shape(served: Served) -> None:
    with pytest.raises(openai.NotFoundError):
        await served.complete("nobody")
    with pytest.raises(openai.BadRequestError):
        await served.complete(MODEL, prompt="word " * 400)


async def test_sigterm_ends_what_runs_and_then_the_engine(served: Served) -> None:
    stream = await served.client.completions.create(
        model=MODEL, prompt="Who", max_tokens=64, stream=True, extra_body={"ignore_eos": True}
    )
    await anext(stream)  # it has begun
    served.process.process.terminate()
    assert [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices][-1] == "length"
    assert await served.process.ended() == 0
