"""The built-in engine beside one-at-a-time `generate`, on the same model and the same requests, in one run.

Model: a random Llama of about 100 million parameters. Requests: prompts of 16 to 64 tokens and answers of 16 to 64,
both uniform, from a seed. Each row: requests at once, tokens per second, time to first token, time between tokens.
`generate` answers one request after the other, as a server without batching does, whatever the number at once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from kaito.runtime.model.main import find_builtin
from kaito.runtime.serve.engines.base import Generation, Sampling
from kaito.runtime.serve.engines.builtin.engine import BuiltinEngine, BuiltinOptions

Request = tuple[tuple[int, ...], int]


def save_model(folder: Path) -> int:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16384, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=12, max_position_embeddings=512, eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_builtin("tiny-phi-3")).save_pretrained(folder)
    return int(model.num_parameters())


def draw(seed: int, count: int) -> list[Request]:
    rng = random.Random(seed)
    return [
        (tuple(rng.randrange(5, 16384) for _ in range(rng.randint(16, 64))), rng.randint(16, 64)) for _ in range(count)
    ]


def one_at_a_time(folder: Path, requests: Sequence[Request]) -> float:
    """Tokens per second of `generate`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    began = time.perf_counter()
    with torch.inference_mode():
        for prompt, count in requests:
            ids = torch.tensor([prompt])
            model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                do_sample=False,
            )  # fmt: skip
    return sum(count for _, count in requests) / (time.perf_counter() - began)


async def at_once(engine: BuiltinEngine, requests: Sequence[Request], concurrency: int) -> str:
    """A row of the table: `concurrency` clients, each asks again as soon as it is answered."""
    waiting = list(enumerate(requests))
    firsts: list[float] = []
    gaps: list[float] = []

    async def client() -> None:
        while waiting:
            number, (prompt, count) = waiting.pop()
            last, is_first = time.perf_counter(), True
            generation = Generation(
                f"{concurrency}-{number}", "base", prompt, Sampling(max_tokens=count, ignore_eos=True)
            )
            async for _ in engine.generate(generation):
                now = time.perf_counter()
                (firsts if is_first else gaps).append(now - last)
                last, is_first = now, False

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    speed = sum(count for _, count in requests) / (time.perf_counter() - began)
    return f"| built-in engine | {concurrency} | {speed:.0f} | {_quantiles(firsts)} | {_quantiles(gaps)} |"


async def engine_rows(folder: Path, count: int) -> list[str]:
    # Prefix reuse is off: the requests are the same for each row, and would be remembered.
    engine = BuiltinEngine(
        BuiltinOptions(folder, "base", dtype="float32", kv_bytes=2 << 30, limits={"kept_prefixes": 0})
    )
    began = time.perf_counter()
    await engine.start()
    print(f"start {time.perf_counter() - began:.1f} s", flush=True)
    rows = [await at_once(engine, draw(1, count * factor), many) for many, factor in ((1, 1), (8, 2), (32, 4))]
    await engine.stop()
    return rows


def _quantiles(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "-"
    cuts = statistics.quantiles(seconds, n=100)
    return f"{cuts[49] * 1e3:.0f} / {cuts[98] * 1e3:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--requests", type=int, default=8, help="requests at concurrency 1; twice at 8, four times at 32"
    )
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = save_model(folder)
        print(f"{parameters / 1e6:.0f} M parameters, float32, {given.threads} threads", flush=True)
        alone = one_at_a_time(folder, draw(1, given.requests))
        print(
            "| what | at once | tokens/s | first token ms p50/p99 | between tokens ms p50/p99 |\n|---|---|---|---|---|"
        )
        print(f"| one-at-a-time generate | any | {alone:.0f} | - | - |", flush=True)
        print("\n".join(asyncio.run(engine_rows(folder, given.requests))))
        print(f"resident memory {psutil.Process().memory_info().rss >> 20} MiB")


if __name__ == "__main__":
    main()
