"""The built-in engine as the HTTP surface sees it: asyncio in front, the worker thread behind.

This module imports without torch, so that the server listens and says that it loads while `load` imports the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kaito.runtime.errors import InputError
from kaito.runtime.serve.engines.base import EngineStats, Generation, ServedModel, Token
from kaito.runtime.serve.errors import InvalidRequest, ModelNotFound, NotReady

if TYPE_CHECKING:
    from kaito.runtime.serve.engines.builtin.model import StepModel
    from kaito.runtime.serve.engines.builtin.vocabulary import TokenizerVocabulary
    from kaito.runtime.serve.engines.builtin.worker import Worker

T = TypeVar("T")


@dataclass(frozen=True)
class AdapterSource:
    name: str
    folder: Path
    strength: float = 1.0


@dataclass(frozen=True)
class BuiltinOptions:
    """`kv_bytes` None takes a share of free memory; `threads` None chooses by the model's size."""

    folder: Path
    name: str
    adapters: tuple[AdapterSource, ...] = ()
    dtype: str = "auto"
    quantization: str = ""
    """`int8`, or nothing."""
    max_length: int | None = None
    kv_bytes: int | None = None
    threads: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    """Changes to the defaults of `Limits`, by name."""


class BuiltinEngine:
    """Implements `base.Engine`."""

    def __init__(self, options: BuiltinOptions) -> None:
        self._options = options
        self._model: StepModel | None = None
        self._worker: Worker | None = None
        self._adapters: list[str] = []

    @property
    def vocabulary(self) -> TokenizerVocabulary:
        return self._vocabulary

    @property
    def sampling_defaults(self) -> Mapping[str, float]:
        return {} if self._model is None else self._model.sampling_defaults

    @property
    def context_length(self) -> int:
        assert self._model is not None
        return self._model.context_length

    @property
    def is_alive(self) -> bool:
        return self._worker is not None and self._worker.is_alive

    async def start(self) -> None:
        await _in_passing_thread(self._load)

    def _load(self) -> None:
        with _collector_paused():
            from kaito.runtime.serve.engines.builtin.load import load_worker

        self._model, self._worker, self._vocabulary = load_worker(self._options)
        self._adapters += [adapter.name for adapter in self._options.adapters]
        self._worker.start()

    def models(self) -> list[ServedModel]:
        base = self._options.name
        return [ServedModel(base, base), *(ServedModel(name, name, base) for name in self._adapters)]

    async def generate(self, generation: Generation) -> AsyncGenerator[Token, None]:
        worker = self._ready()
        adapter = self._adapter_of(generation.model)
        self._check_room(generation)
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[Token | BaseException] = asyncio.Queue()

        def sink(item: Token | BaseException) -> None:
            loop.call_soon_threadsafe(tokens.put_nowait, item)

        worker.submit(generation, adapter, sink)
        try:
            while True:
                item = await tokens.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if item.finish:
                    return
        finally:
            worker.cancel(generation.id)

    @property
    def embedding_size(self) -> int:
        return 0 if self._model is None else self._model.embedding_size

    async def embed(self, model: str, inputs: Sequence[tuple[int, ...]]) -> list[list[float]]:
        worker = self._ready()
        adapter = self._adapter_of(model)
        # Each between two steps, so that answers that are being written go on.
        calls = [functools.partial(worker.embed, one, adapter) for one in inputs]
        return [await asyncio.wrap_future(worker.call(call)) for call in calls]

    async def load_adapter(self, name: str, folder: Path, strength: float) -> None:
        worker = self._ready()
        if name == self._options.name:
            raise InvalidRequest(f"{name!r} is the base model's name", "lora_name")
        try:
            adapter = await _in_passing_thread(functools.partial(worker.read_adapter, name, folder, strength))
            # Shielded: a client that goes away must not leave the change half made.
            await asyncio.shield(asyncio.wrap_future(worker.call(lambda: worker.add_adapter(adapter))))
        except InputError as error:
            raise InvalidRequest(error.message, "lora_path") from error
        if name not in self._adapters:
            self._adapters.append(name)

    async def unload_adapter(self, name: str) -> None:
        worker = self._ready()
        if name not in self._adapters:
            raise ModelNotFound(name, self._adapters)
        self._adapters.remove(name)
        await asyncio.shield(asyncio.wrap_future(worker.call(lambda: worker.unload_adapter(name))))

    def stats(self) -> EngineStats:
        return EngineStats() if self._worker is None else self._worker.stats()

    async def stop(self) -> None:
        if self._worker is not None:
            await asyncio.to_thread(self._worker.stop)

    def _ready(self) -> Worker:
        if self._worker is None:
            raise NotReady("the model is still loading")
        if not self._worker.is_alive:
            raise NotReady("the engine has stopped; the pod will be restarted")
        return self._worker

    def _adapter_of(self, model: str) -> str | None:
        if model == self._options.name:
            return None
        if model not in self._adapters:
            raise ModelNotFound(model, [one.name for one in self.models()])
        return model

    def _check_room(self, generation: Generation) -> None:
        assert self._worker is not None
        needed = len(generation.prompt) + generation.sampling.max_tokens
        room = self._worker.kv_tokens
        if needed > room:
            raise InvalidRequest(
                f"prompt and max_tokens need {needed} tokens of memory, and this server has {room}", "max_tokens"
            )


async def _in_passing_thread(func: Callable[[], T]) -> T:
    """Run `func` in a thread that ends with it. One that has computed in parallel keeps its helper threads for as long
    as it lives, and where there are more of these than cores, all sleep between two pieces of work (see `load`)."""
    executor = ThreadPoolExecutor(max_workers=1)
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, func)
    finally:
        executor.shutdown(wait=False)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Imports make millions of objects and drop none: a garbage collector beside them costs a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
