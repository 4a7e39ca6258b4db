"""Every endpoint, as clients see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.model.main import find_builtin
from tests.runtime.serve.serving import MODEL, Server, serving
from tests.runtime.serve.small_models import save_adapter

HELLO = [{"role": "user", "content": "Hello"}]
GREETING = "Hello! Ask me about a town."


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


async def test_chat_takes_the_readmes_call(server: Server) -> None:
    assert await server.chat("Hello") == GREETING
    status, answer = await server.post("/chat", b'{"prompt":"Hello"}', accept="application/json")
    assert (status, answer) == (200, {"Result": GREETING})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": "Hello", "return_full_text": True}, "Hello" + GREETING),
        ({"prompt": "llo", "prefix": "He"}, GREETING),
        ({"messages": HELLO}, GREETING),
        ({"prompt": "Hello", "generate_kwargs": {"max_new_tokens": 2}}, "Hello!"),
        ({"prompt": "Hello", "generate_kwargs": {"max_length": 9}}, "Hello!"),
        ({"prompt": "Hello", "generate_kwargs": {"do_sample": True, "top_k": 1}}, GREETING),
        ({"prompt": "Hello", "clean_up_tokenization_spaces": True, "generate_kwargs": {"num_beams": 1}}, GREETING),
        ({"prompt": "Hello", "generate_kwargs": {"stop_strings": ["Ask"]}}, "Hello! "),
    ],
)
async def test_chat_carries_out_its_parameters(server: Server, body: dict[str, Any], expected: str) -> None:
    assert await server.post("/chat", body) == (200, {"Result": expected})


async def test_chat_with_the_defaults_of_v0_3() -> None:
    """The prompt goes as it is, comes back before the answer, and is sampled, unless the request says otherwise."""
    async with serving(chat_defaults="v0.3") as server:
        templated = "<|user|>\nHello<|end|>\n<|assistant|>\n"
        greedy = {"do_sample": False}
        assert await server.chat(templated, generate_kwargs=greedy, return_full_text=False) == GREETING
        assert (await server.chat("Hello", generate_kwargs={"max_new_tokens": 3})).startswith("Hello")
        settings = {"temperature": 50.0, "top_k": 200, "max_new_tokens": 20}
        answers = {await server.chat("Hello", generate_kwargs={**settings, "seed": seed}) for seed in range(4)}
        assert len(answers) > 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "Text generation parameter prompt required"),
        ({"prompt": ""}, "Text generation parameter prompt required"),
        ({"messages": []}, "Conversational parameter messages required"),
        ({"prompt": 3}, "$.prompt"),
        ({"prompt": "a", "generate_kwargs": {"num_beams": 4}}, "num_beams"),
        ({"prompt": "a", "generate_kwargs": {"max_lenght": 4}}, "max_lenght"),
        ({"prompt": "a", "generate_kwargs": {"top_p": 7}}, "top_p"),
        ({"prompt": "word " * 600}, "512"),
    ],
)
async def test_chat_refuses_with_words(server: Server, body: dict[str, Any], words: str) -> None:
    status, answer = await server.post("/chat", body)
    assert status == 400
    assert words in answer["detail"]
    assert words in answer["error"]["message"]


async def test_chat_completion(server: Server) -> None:
    status, answer = await server.post("/v1/chat/completions", {"messages": HELLO, "temperature": 0, "model": MODEL})
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": GREETING}
    assert answer["choices"][0]["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_streamed_chat_is_the_whole_one_in_pieces(server: Server) -> None:
    body = {"messages": HELLO, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    async with server.session.post(server.url + "/v1/chat/completions", json=body) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = [line async for line in response.content if line.strip()]
    assert lines[-1].strip() == b"data: [DONE]"
    events = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    choices = [event["choices"][0] for event in events if event["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == GREETING
    assert choices[-1]["finish_reason"] == "stop"
    assert events[-1]["usage"]["completion_tokens"] == 9


async def test_completion_with_logprobs_and_several_prompts(server: Server) -> None:
    body = {"prompt": ["Hello", [5, 6]], "max_tokens": 3, "logprobs": 2, "temperature": 0, "n": 2}
    status, answer = await server.post("/v1/completions", body)
    assert status == 200
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    first = answer["choices"][0]
    assert first["finish_reason"] == "length"
    assert len(first["logprobs"]["tokens"]) == 3
    assert all(len(top) == 2 and max(top.values()) <= 0 for top in first["logprobs"]["top_logprobs"])


async def test_completion_echoes_its_prompt(server: Server) -> None:
    status, answer = await server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 3, "echo": True})
    assert status == 200
    assert answer["choices"][0]["text"].startswith("Hello")


async def test_a_seed_gives_the_same_answer_and_choices_differ(server: Server) -> None:
    body = {"messages": HELLO, "temperature": 1.5, "seed": 11, "n": 3, "max_tokens": 12}
    one = (await server.post("/v1/chat/completions", body))[1]["choices"]
    other = (await server.post("/v1/chat/completions", body))[1]["choices"]
    assert [choice["message"] for choice in one] == [choice["message"] for choice in other]
    assert len({choice["message"]["content"] for choice in one}) > 1


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/chat/completions", b"{", 400, "the request body is wrong"),
        ("/v1/chat/completions", {"messages": []}, 400, "messages is empty"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        ("/v1/chat/completions", {"messages": HELLO, "model": "other"}, 404, "served: tiny-phi-3"),
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 9999}, 400, "512 tokens"),
        ("/v1/chat/completions", {"messages": HELLO, "temperature": -1}, 400, "$.temperature"),
        ("/v1/chat/completions", {"messages": HELLO, "logit_bias": {"x": 1}}, 400, "logit_bias"),
        ("/v1/chat/completions", {"messages": HELLO, "response_format": {"type": "xml"}}, 400, "'xml'"),
        ("/v1/chat/completions", {"messages": HELLO, "functions": [{"name": "f"}]}, 400, "use tools"),
        ("/v1/completions", {"prompt": "a", "echo": True, "logprobs": 1}, 400, "echo"),
        ("/v1/chat/completions", {"messages": HELLO, "tool_choice": "required"}, 400, "tool"),
        ("/v1/chat/completions", {"messages": HELLO, "chat_template_kwargs": {"tokenize": False}}, 400, "tokenize"),
        ("/v1/completions", {"prompt": []}, 400, "holds 0 prompts"),
        ("/v1/completions", {"prompt": [99999]}, 400, "99999"),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, 400, "suffix"),
        ("/v1/embeddings", {"input": "a"}, 400, "embeddings"),
        ("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "b"}, 400, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
        ("/v1/nothing", {}, 404, "/v1/nothing"),
        ("/health", {}, 405, "POST"),
    ],
)
async def test_errors_have_openais_shape(server: Server, path: str, body: Any, status: int, words: str) -> None:
    got, answer = await server.post(path, body)
    assert got == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert words in answer["error"]["message"]


async def test_a_body_over_the_limit_is_413() -> None:
    async with serving(max_body=1000) as server:
        assert (await server.post("/chat", {"prompt": "a" * 2000}))[0] == 413


async def test_keys_guard_the_api_and_leave_probes_open() -> None:
    async with serving(api_keys=frozenset({"secret-one"})) as server:
        assert (await server.post("/chat", {"prompt": "Hello"}))[0] == 401
        assert (await server.post("/chat", {"prompt": "Hello"}, Authorization="Bearer wrong"))[0] == 401
        assert (await server.post("/chat", {"prompt": "Hello"}, Authorization="Bearer secret-one"))[0] == 200
        for path in ("/health", "/metrics"):
            async with server.session.get(server.url + path) as response:
                assert response.status == 200


async def test_health_metrics_models_and_version(server: Server) -> None:
    await server.chat("Hello")
    texts = {}
    for path in ("/", "/health", "/healthz", "/metrics", "/version", "/v1/models", f"/v1/models/{MODEL}", "/progress"):
        async with server.session.get(server.url + path) as response:
            assert response.status == 200, path
            texts[path] = await response.text()
    assert json.loads(texts["/"]) == {"message": "Server is running"}
    assert json.loads(texts["/healthz"]) == {"status": "Healthy"}
    assert json.loads(texts["/v1/models"])["data"][0]["id"] == MODEL
    assert 'vllm:generation_tokens_total{engine="0",model_name="tiny-phi-3"} 9.0' in texts["/metrics"]
    assert (
        'vllm:request_success_total{engine="0",finished_reason="stop",model_name="tiny-phi-3"} 1.0' in texts["/metrics"]
    )


async def test_while_it_loads_it_says_so(server: Server) -> None:
    server.state.phase = "loading"
    async with server.session.get(server.url + "/health") as response:
        assert response.status == 503
    status, answer = await server.post("/chat", {"prompt": "Hello"})
    assert (status, answer["error"]["code"]) == (503, "not_ready")


async def test_adapters_come_and_go_at_run_time(tmp_path: Path) -> None:
    folder = save_adapter(find_builtin(MODEL), tmp_path / "loud", 3)
    async with serving(can_load_adapters=True) as server:
        wanted = {"lora_name": "loud", "lora_path": str(folder)}
        async with server.session.post(server.url + "/v1/load_lora_adapter", json=wanted) as response:
            assert response.status == 200
        assert await server.chat("Hello", model="loud") != GREETING
        assert await server.chat("Hello") == GREETING
        async with server.session.post(server.url + "/v1/unload_lora_adapter", json=wanted) as response:
            assert response.status == 200
        assert (await server.post("/chat", {"prompt": "Hello", "model": "loud"}))[0] == 404
        status, answer = await server.post("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": str(tmp_path)})
        assert status == 400
        assert "adapter_config.json" in answer["error"]["message"]


async def test_a_client_that_leaves_is_taken_out_of_the_batch(server: Server) -> None:
    body = {"prompt": "Hello", "max_tokens": 500, "ignore_eos": True, "stream": True}
    async with server.session.post(server.url + "/v1/completions", json=body) as response:
        await response.content.readline()
        response.close()
    async with asyncio.timeout(5):
        while server.engine.stats().running:
            await asyncio.sleep(0.01)
