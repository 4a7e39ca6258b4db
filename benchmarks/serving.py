"""The built-in engine beside its alternatives: the same model, the same requests, in one run, in turn.

Model: a random Llama of about 110 million parameters. Requests: prompts of 16 to 64 words and answers of 16 to 64
tokens, both uniform, from a seed; greedy, streamed over HTTP. `generate` answers one after the other in this process,
without HTTP, as a server without batching would at best. Tokens per second are wall time; on a busy machine the tokens
per processor second (of the server and its children) are the better measure. Each engine is measured in turn while
the others are stopped, and the whole again for each round; the median of the rounds counts, and how far they lie apart
is shown.

vLLM and `transformers serve` come from another environment (`--alternatives PYTHON`), where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from kaito.runtime.model.main import find_builtin

SOURCE = Path(__file__).parents[1] / "src"
NAME = "bench"
CONTEXT = 512
REQUESTS = {1: 6, 8: 40, 32: 128}  # at once -> how many in all
WORDS = ("Hello", "who", "is", "the", "mayor", "of", "Brinhaven", "and", "what", "town", "has", "a", "river", "baker")


class Failed(Exception):
    """An engine that cannot be measured here."""


@dataclass(frozen=True)
class Request:
    prompt: str
    tokens: int


@dataclass
class Row:
    """What one engine did at one number of requests at once. `cpu` in seconds, of its whole process tree."""

    tokens: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        return self.tokens / self.wall


@dataclass
class Server:
    """A server process under measurement."""

    name: str
    command: list[str]
    environ: dict[str, str]
    url: str
    model: str
    knows_more: bool = True
    """Whether it takes vLLM's additions to the request (`ignore_eos`)."""
    started: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def tree(self) -> list[psutil.Process]:
        assert self.process is not None
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        return sum(sum(one.cpu_times()[:2]) for one in self.tree())

    def memory(self) -> int:
        return sum(one.memory_info().rss for one in self.tree())

    def pause(self) -> None:
        """Stop its processes where they are: engines that have nothing to do look for work all the time."""
        for one in self.tree():
            one.suspend()

    def resume(self) -> None:
        for one in self.tree():
            one.resume()


def save_model(folder: Path) -> int:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16384, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=12, max_position_embeddings=CONTEXT, eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    tokenizer = AutoTokenizer.from_pretrained(find_builtin("tiny-phi-3"))
    # Only tokens that are words of their own come out best: each is then an event of its own in every server's stream.
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(len(tokenizer))]
    is_word = torch.tensor([bool(text.strip()) and text.isascii() for text in texts])
    with torch.no_grad():
        model.lm_head.weight[: len(texts)][~is_word] = 0
        model.lm_head.weight[len(texts) :] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


def draw(seed: int, count: int) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(" ".join(rng.choice(WORDS) for _ in range(rng.randint(16, 64))), rng.randint(16, 64))
        for _ in range(count)
    ]


def one_at_a_time(folder: Path, dtype: str, requests: Sequence[Request]) -> Row:
    """`generate`, in this process."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = Row()
    with torch.inference_mode():
        for warm in (True, False):
            wall, cpu = time.perf_counter(), time.process_time()
            for request in requests[:1] if warm else requests:
                ids = torch.tensor([tokenizer(request.prompt)["input_ids"]])
                model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=request.tokens,
                    min_new_tokens=request.tokens, do_sample=False,
                )  # fmt: skip
    row.tokens = sum(request.tokens for request in requests)
    row.wall, row.cpu = time.perf_counter() - wall, time.process_time() - cpu
    return row


async def measure(server: Server, requests: Sequence[Request], at_once: int) -> Row:
    """`at_once` clients, each asks again as soon as it is answered."""
    waiting = list(requests)
    row = Row()

    async def client(session: aiohttp.ClientSession) -> None:
        while waiting:
            request = waiting.pop()
            body: dict[str, Any] = {
                "model": server.model, "prompt": request.prompt, "max_tokens": request.tokens, "stream": True,
                "temperature": 0,
            }  # fmt: skip
            if server.knows_more:
                body["ignore_eos"] = True
            last, count = time.perf_counter(), 0
            async with session.post(f"{server.url}/v1/completions", json=body) as response:
                if response.status != 200:
                    raise Failed(f"{server.name}: {response.status} {await response.text()}")
                async for line in response.content:
                    if not line.startswith(b"data: {"):
                        continue
                    choices = json.loads(line[6:]).get("choices")
                    if not choices:
                        continue
                    now = time.perf_counter()
                    (row.gaps if count else row.firsts).append(now - last)
                    last, count = now, count + 1
            row.tokens += request.tokens

    timeout = aiohttp.ClientTimeout(total=1800)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        wall, cpu = time.perf_counter(), server.cpu()
        await asyncio.gather(*(client(session) for _ in range(at_once)))
        row.wall, row.cpu = time.perf_counter() - wall, server.cpu() - cpu
    return row


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def servers(folder: Path, dtype: str, threads: int, alternatives: Path | None, wanted: Sequence[str]) -> list[Server]:
    """Those that are wanted and can be started here."""
    config = folder / "inference_config.yaml"
    config.write_text(f"vllm:\n  dtype: {dtype}\n  max-model-len: {CONTEXT}\n  enable-prefix-caching: false\n")
    own = {"KAITO_HOST": "127.0.0.1", "KAITO_MODEL_DIR": str(folder), "KAITO_PRESET": NAME, "KAITO_CONFIG": str(config),
           "KAITO_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}  # fmt: skip
    vllm = {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, range(threads))), "VLLM_CPU_KVCACHE_SPACE": "1",
            "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}  # fmt: skip
    made = [
        _server("built-in engine", [sys.executable, "-m", "kaito.runtime.main", "serve"], own, NAME),
        _server("built-in engine, int8", [sys.executable, "-m", "kaito.runtime.main", "serve"],
                own | {"KAITO_CONFIG": str(_int8(config))}, NAME),
    ]  # fmt: skip
    if alternatives is not None:
        python = str(alternatives)
        port = free_port()
        flags = ["--model", str(folder), "--served-model-name", NAME, "--dtype", dtype, "--max-model-len", str(CONTEXT),
                 "--no-enable-prefix-caching", "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
        made.append(_server("vllm-cpu", [python, "-m", "vllm.entrypoints.openai.api_server", *flags], vllm, NAME, port))
        surface = own | vllm | {"KAITO_ENGINE": "vllm", "PYTHONPATH": str(SOURCE)}
        made.append(_server("our surface over vllm-cpu", [python, "-m", "kaito.runtime.main", "serve"], surface, NAME))
        port = free_port()
        serve = [str(alternatives.parent / "transformers"), "serve", str(folder), "--host", "127.0.0.1", "--port",
                 str(port), "--dtype", dtype, "--device", "cpu", "--continuous-batching", "--cb-max-memory-percent",
                 "0.1"]  # fmt: skip
        environ = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        made.append(_server("transformers serve", serve, environ, str(folder), port, knows_more=False))
    return [one for one in made if not wanted or one.name in wanted]


def _int8(config: Path) -> Path:
    made = config.with_name("inference_config_int8.yaml")
    made.write_text(config.read_text() + "  quantization: int8\n")
    return made


def _server(
    name: str, command: list[str], environ: dict[str, str], model: str, port: int = 0, *, knows_more: bool = True
) -> Server:
    port = port or free_port()
    return Server(
        name, command, {**os.environ, "KAITO_PORT": str(port), **environ}, f"http://127.0.0.1:{port}", model, knows_more
    )


@contextlib.contextmanager
def running(server: Server, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        server.process = subprocess.Popen(server.command, env=server.environ, stdout=out, stderr=out)
    try:
        yield
    finally:
        server.process.terminate()
        try:
            server.process.wait(60)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


async def ready(server: Server, log: Path) -> None:
    """Wait until it answers a request of one token."""
    began = time.perf_counter()
    assert server.process is not None
    body = {"model": server.model, "prompt": "Hello", "max_tokens": 1}
    async with aiohttp.ClientSession() as session:
        while time.perf_counter() - began < 600:
            if server.process.poll() is not None:
                raise Failed(f"{server.name} ended: {log.read_text()[-2000:]}")
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(f"{server.url}/v1/completions", json=body) as response:
                    if response.status == 200:
                        server.started = time.perf_counter() - began
                        return
            await asyncio.sleep(0.1)
    raise Failed(f"{server.name} did not start: {log.read_text()[-2000:]}")


async def run(given: argparse.Namespace, folder: Path) -> None:
    chosen = servers(folder, given.dtype, given.threads, given.alternatives, given.only)
    measured: list[Server] = []
    rounds: dict[tuple[str, int], list[Row]] = {}

    def keep(name: str, at_once: int, row: Row) -> None:
        print(
            f"  {name}, {at_once} at once: {row.speed:.0f} tokens/s, {row.tokens / row.cpu:.0f} per cpu second",
            flush=True,
        )
        rounds.setdefault((name, at_once), []).append(row)

    with contextlib.ExitStack() as stack:
        for number, server in enumerate(chosen):
            log = folder / f"server-{number}.log"
            stack.enter_context(running(server, log))
            try:
                await ready(server, log)
                await measure(server, draw(0, 4), 4)
            except Failed as error:
                print(f"left out: {error}", flush=True)
                continue
            measured.append(server)
            server.pause()
            stack.callback(server.resume)  # a process that is stopped does not end when it is asked to
            print(f"{server.name} started in {server.started:.1f} s", flush=True)
        for _ in range(given.rounds):
            keep("one-at-a-time generate", 1, one_at_a_time(folder, given.dtype, draw(1, REQUESTS[1])))
            for at_once, count in REQUESTS.items():
                for server in measured:
                    server.resume()
                    keep(server.name, at_once, await measure(server, draw(1, count), at_once))
                    server.pause()
        print(f"\n{given.dtype}, {given.threads} threads, median of {given.rounds} rounds\n")
        print(_table(measured, rounds))
        if given.load:
            measured[0].resume()
            print(await _load(measured[0]))


def _table(chosen: Sequence[Server], rounds: Mapping[tuple[str, int], Sequence[Row]]) -> str:
    alone = _median(rounds["one-at-a-time generate", 1])
    lines = [
        "| engine | at once | tokens/s | rounds | against generate | tokens per cpu s | first token ms p50 / p99 | "
        "between tokens ms p50 / p99 | memory MiB | start s |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| one-at-a-time generate | any | {alone.speed:.0f} | {_spread(rounds['one-at-a-time generate', 1])} | 1.0 | "
        f"{alone.tokens / alone.cpu:.0f} | - | - | - | - |",
    ]
    for server in chosen:
        for at_once in REQUESTS:
            row = _median(rounds[server.name, at_once])
            lines.append(
                f"| {server.name} | {at_once} | {row.speed:.0f} | {_spread(rounds[server.name, at_once])} | "
                f"{row.speed / alone.speed:.1f} | {row.tokens / row.cpu:.0f} | "
                f"{_quantiles(row.firsts)} | {_quantiles(row.gaps)} | {server.memory() >> 20} | {server.started:.1f} |"
            )
    return "\n".join(lines)


def _median(rows: Sequence[Row]) -> Row:
    """The round of the middle speed."""
    return sorted(rows, key=lambda row: row.speed)[len(rows) // 2]


def _spread(rows: Sequence[Row]) -> str:
    speeds = [row.speed for row in rows]
    return f"{min(speeds):.0f} to {max(speeds):.0f}"


async def _load(server: Server) -> str:
    """500 clients at once against 32 places and a queue of 64."""
    times: list[float] = []
    statuses: dict[int, int] = {}

    async def ask(session: aiohttp.ClientSession, request: Request) -> None:
        began = time.perf_counter()
        body = {"model": server.model, "prompt": request.prompt, "max_tokens": request.tokens, "ignore_eos": True}
        async with session.post(f"{server.url}/v1/completions", json=body) as response:
            await response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            if response.status == 200:
                times.append(time.perf_counter() - began)

    timeout = aiohttp.ClientTimeout(total=1800)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*(ask(session, request) for request in draw(2, 500)))
    return (
        f"\n500 clients at once, 32 places, a queue of 64: answers {statuses}, "
        f"accepted ones after {_quantiles(times)} ms (p50 / p99), {server.memory() >> 20} MiB"
    )


def _quantiles(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "-"
    cuts = statistics.quantiles(seconds, n=100)
    return f"{cuts[49] * 1e3:.0f} / {cuts[98] * 1e3:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--alternatives", type=Path, help="a Python that has vllm-cpu and transformers[serving]")
    parser.add_argument("--only", nargs="*", default=[], help="names of the engines to measure")
    parser.add_argument("--load", action="store_true", help="then 500 clients at once at the first engine")
    given = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{save_model(folder) / 1e6:.0f} M parameters", flush=True)
        asyncio.run(run(given, folder))


if __name__ == "__main__":
    main()
