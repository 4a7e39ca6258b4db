"""What the built-in engine answers is what `generate` answers, token for token, whoever else shares the steps."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from kaito.runtime.serve.engines.base import Generation, Sampling
from kaito.runtime.serve.engines.builtin.engine import AdapterSource, BuiltinEngine, BuiltinOptions
from tests.runtime.serve.small_models import ARCHITECTURES, VOCABULARY, Reference, save_adapter, save_model

ADAPTERS = {"red": 1, "blue": 2}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class Saved:
    base: Path
    adapters: dict[str, Path]
    reference: Reference

    @contextlib.asynccontextmanager
    async def engine(self, *, kv_bytes: int = 8 << 20, **limits: int) -> AsyncIterator[BuiltinEngine]:
        options = BuiltinOptions(
            folder=self.base,
            name="base",
            adapters=tuple(AdapterSource(name, path) for name, path in self.adapters.items()),
            dtype="float32",
            kv_bytes=kv_bytes,
            limits=limits,
        )
        engine = BuiltinEngine(options)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    root = tmp_path_factory.mktemp(request.param)
    base = save_model(request.param, root / "base")
    adapters = {name: save_adapter(base, root / name, seed) for name, seed in ADAPTERS.items()}
    return Saved(base, adapters, Reference(base, adapters))


async def tokens_of(engine: BuiltinEngine, id_: str, model: str, prompt: list[int], count: int) -> list[int]:
    generation = Generation(id_, model, tuple(prompt), Sampling(max_tokens=count))
    return [token.id async for token in engine.generate(generation)]


def prompts(seed: int, count: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(5, VOCABULARY) for _ in range(rng.choice([1, 3, 17, 40]))] for _ in range(count)]


async def test_alone(saved: Saved) -> None:
    async with saved.engine() as engine:
        for number, prompt in enumerate(prompts(1, 2)):
            for model in ("base", "red"):
                expected = saved.reference.greedy(prompt, 12, None if model == "base" else model)
                assert await tokens_of(engine, f"{number}{model}", model, prompt, 12) == expected


async def test_mixed_batch_with_joins_leaves_and_adapters(saved: Saved) -> None:
    """Requests come at random moments, some leave early, prompts are read in chunks of at most 16 tokens."""
    rng = random.Random(5)
    wanted = [(prompt, rng.choice(["base", "red", "blue"]), rng.randrange(1, 16)) for prompt in prompts(2, 10)]
    async with saved.engine(max_running=6, step_tokens=24, prompt_tokens_beside=16) as engine:

        async def ask(number: int) -> list[int]:
            for _ in range(number * 3):
                await asyncio.sleep(0)
            prompt, model, count = wanted[number]
            if number % 5 == 4:
                generation = Generation(f"gone{number}", model, tuple(prompt), Sampling(max_tokens=60, ignore_eos=True))
                async with contextlib.aclosing(engine.generate(generation)) as tokens:
                    async for _ in tokens:
                        break
            return await tokens_of(engine, str(number), model, prompt, count)

        answers = await asyncio.gather(*(ask(number) for number in range(len(wanted))))
        assert engine.stats().running == 0
    for (prompt, model, count), answer in zip(wanted, answers, strict=True):
        assert answer == saved.reference.greedy(prompt, count, None if model == "base" else model)


async def test_long_ones_beside_short_ones(saved: Saved) -> None:
    """Over many blocks of keys, of which a sliding window sees a part, and from one block to the next."""
    rng = random.Random(9)
    wanted = [[rng.randrange(5, VOCABULARY) for _ in range(length)] for length in (190, 62, 5)]
    async with saved.engine() as engine:
        answers = await asyncio.gather(
            *(tokens_of(engine, str(number), "base", prompt, 40) for number, prompt in enumerate(wanted))
        )
    for prompt, answer in zip(wanted, answers, strict=True):
        assert answer == saved.reference.greedy(prompt, 40)


async def test_a_shared_beginning_is_read_once_and_changes_nothing(saved: Saved) -> None:
    shared = prompts(3, 1)[0] + list(range(100, 160))
    async with saved.engine() as engine:
        for model in ("base", "red"):
            before = engine.stats().prefix_hits
            for tail in ([7, 8, 9], [10], [7, 8, 9, 11]):
                expected = saved.reference.greedy(shared + tail, 6, None if model == "base" else model)
                assert await tokens_of(engine, f"{tail}{before}", model, shared + tail, 6) == expected
            assert engine.stats().prefix_hits - before >= 2 * len(shared)


async def test_beginnings_are_shared_and_given_up_where_memory_is_short(saved: Saved) -> None:
    """More is asked for than there is room: some wait, kept beginnings make room, and every answer is right."""
    rng = random.Random(11)
    shared = prompts(4, 1)[0] + list(range(200, 300))
    wanted = [[*shared[: rng.choice([20, 64, 90, 128])], rng.randrange(5, VOCABULARY)] for _ in range(14)]
    async with saved.engine(kv_bytes=300_000, max_running=6) as engine:
        answers = await asyncio.gather(
            *(tokens_of(engine, str(number), "base", prompt, 20) for number, prompt in enumerate(wanted))
        )
        stats = engine.stats()
        assert stats.running == 0
        assert 0 < stats.kv_usage <= 1
        assert stats.prefix_hits > 0
    for prompt, answer in zip(wanted, answers, strict=True):
        assert answer == saved.reference.greedy(prompt, 20)
