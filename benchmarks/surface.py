"""What our surface adds to an OpenAI server behind it: the same requests, straight and through it, in turn.

The engine is a stand-in that writes a token every 20 ms for each request, as a GPU would, so that only the way matters.
Each round asks straight and through the surface; the medians of the rounds are shown. Processor time is that of the
surface's own process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web

from kaito.runtime.progress import Progress
from kaito.runtime.serve.engines.base import ServedModel
from kaito.runtime.serve.proxy import ProxySurface
from kaito.runtime.serve.settings import Settings
from kaito.runtime.serve.state import ServerState

PACE = 0.02  # seconds between two tokens
TOKENS = 100


async def answer(request: web.Request) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    began = time.perf_counter()
    for number in range(TOKENS):
        await asyncio.sleep(max(0.0, began + (number + 1) * PACE - time.perf_counter()))
        event = {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": " word"}]}
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


async def listen(app: web.Application, port: Any) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    port.value = runner.addresses[0][1]
    await asyncio.Event().wait()


def engine(port: Any) -> None:
    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    asyncio.run(listen(app, port))


class Engine:
    """As much of a started vLLM server as the surface asks."""

    is_alive = True

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def models(self) -> list[ServedModel]:
        return [ServedModel("m", "m")]


def surface(port: Any, behind: int) -> None:
    settings = Settings("127.0.0.1", 0, Path(), "m", "m", "vllm")
    made = ProxySurface(Engine(behind), settings, ServerState("ready"), Progress("serve"))  # type: ignore[arg-type]
    asyncio.run(listen(made.application(), port))


@dataclass
class Way:
    """One way to the engine. Lists hold a figure for each round."""

    speeds: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


async def measure(way: Way, port: int, at_once: int) -> None:
    firsts: list[float] = []
    gaps: list[float] = []

    async def ask(session: aiohttp.ClientSession) -> None:
        last, count = time.perf_counter(), 0
        body = {"model": "m", "prompt": "Hello", "stream": True}
        async with session.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    now = time.perf_counter()
                    (gaps if count else firsts).append(now - last)
                    last, count = now, count + 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(ask(session) for _ in range(at_once)))
        way.speeds.append(at_once * TOKENS / (time.perf_counter() - began))
    way.firsts.append(statistics.median(firsts) * 1e3)
    way.gaps.append(statistics.quantiles(gaps, n=100)[98] * 1e3)


@contextlib.asynccontextmanager
async def process(target: Any, *arguments: Any) -> AsyncIterator[tuple[int, psutil.Process]]:
    """The port and the process of a server."""
    port = multiprocessing.Value("i", 0)
    started = multiprocessing.Process(target=target, args=(port, *arguments), daemon=True)
    started.start()
    while not port.value:
        await asyncio.sleep(0.02)
    try:
        yield port.value, psutil.Process(started.pid)
    finally:
        started.terminate()
        started.join()


async def run(rounds: int) -> None:
    print("| at once | way | tokens/s | first token ms p50 | between tokens ms p99 | surface's cpu us per token |")
    print("|---|---|---|---|---|---|")
    async with process(engine) as (behind, _), process(surface, behind) as (front, watched):
        for at_once in (1, 8, 32):
            straight, through = Way(), Way()
            for _ in range(rounds):
                await measure(straight, behind, at_once)
                before = sum(watched.cpu_times()[:2])
                await measure(through, front, at_once)
                cpu = sum(watched.cpu_times()[:2]) - before
            for name, way, spent in (("straight", straight, 0.0), ("through the surface", through, cpu)):
                speed, first, gap = map(statistics.median, (way.speeds, way.firsts, way.gaps))
                micros = f"{spent / (at_once * TOKENS) * 1e6:.0f}" if spent else "-"
                print(f"| {at_once} | {name} | {speed:.0f} | {first:.1f} | {gap:.0f} | {micros} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
