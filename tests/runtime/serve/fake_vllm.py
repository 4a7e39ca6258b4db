"""A small OpenAI server that stands where vLLM would: run as a program, with vLLM's flags, paths and ways to fail.

`FAKE_VLLM` in its environment is JSON: `delay` seconds before it listens, `fail` (what it writes before it ends with
`code`). A prompt of `crash` ends it in the middle of a stream; it then writes no more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from aiohttp import web

BEHAVIOUR: dict[str, Any] = json.loads(os.environ.get("FAKE_VLLM", "{}"))


def flag(name: str) -> str:
    return next(word.partition("=")[2] for word in sys.argv if word.startswith(f"--{name}="))


async def health(request: web.Request) -> web.Response:
    return web.Response()


async def metrics(request: web.Request) -> web.Response:
    return web.Response(text='vllm:generation_tokens_total{model_name="m"} 7.0\n')


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": flag("served-model-name"), "object": "model"}]})


async def tokenize(request: web.Request) -> web.Response:
    asked = await request.json()
    text = asked["prompt"] if "prompt" in asked else "".join(one["content"] for one in asked["messages"])
    return web.json_response({"tokens": list(text.encode()), "count": len(text), "max_model_len": 64})


async def completions(request: web.Request) -> web.StreamResponse:
    """Answers with what it was asked, so that a test can see what came through."""
    asked = await request.json()
    if asked.get("model") not in (None, flag("served-model-name"), "tuned"):
        error = {"message": "The model does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
        return web.json_response({"error": error}, status=404)
    seen = json.dumps({"asked": asked, "key": request.headers.get("Authorization")}, sort_keys=True)
    if not asked.get("stream"):
        return web.json_response({"object": "text_completion", "choices": [{"index": 0, "text": seen}]})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"first": 1}\n\n')
    if asked["prompt"] == "crash":
        os._exit(9)
    await asyncio.sleep(float(asked.get("pause", 0)))
    await response.write(b"data: [DONE]\n\n")
    return response


def main() -> None:
    if "fail" in BEHAVIOUR:
        print(BEHAVIOUR["fail"], file=sys.stderr, flush=True)
        sys.exit(BEHAVIOUR["code"])
    app = web.Application()
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/metrics", metrics),
            web.get("/v1/models", models),
            web.post("/tokenize", tokenize),
            web.post("/v1/completions", completions),
            web.post("/sleep", health),
        ]
    )

    async def wait(app: web.Application) -> None:
        await asyncio.sleep(BEHAVIOUR.get("delay", 0))

    app.on_startup.append(wait)
    web.run_app(app, host=flag("host"), port=int(flag("port")), print=None)


if __name__ == "__main__":
    main()
