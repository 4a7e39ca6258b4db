"""The thread that steps the model, and the only one that touches it.

Everything reaches it as a command through one queue; tokens leave it through each sequence's sink, which must be quick
and thread-safe. An error of a step ends the sequences of that step and no other; an error that keeps coming back ends
the engine, and the liveness probe then restarts the pod.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from kaito.runtime.errors import InputError
from kaito.runtime.serve.engines.base import EngineStats, FinishReason, Generation, Token
from kaito.runtime.serve.engines.builtin.lora import Adapter
from kaito.runtime.serve.engines.builtin.model import StepModel
from kaito.runtime.serve.engines.builtin.sampling import Choice, Sampler, choose_all
from kaito.runtime.serve.engines.builtin.scheduler import Limits, Scheduler, Sequence, Share
from kaito.runtime.serve.errors import NotReady, Overloaded, RequestError

T = TypeVar("T")
Sink = Callable[[Token | BaseException], None]
MAX_FAILURES = 5  # steps that fail one after the other before the engine gives up


class Worker:
    def __init__(self, model: StepModel, limits: Limits) -> None:
        self._model = model
        self._scheduler = Scheduler(limits, model.attention.pool)
        self._adapters: dict[str, Adapter] = {}
        self._sequences: dict[str, Sequence] = {}
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._failures = 0
        self._stopping = False
        self._submitted = 0  # sequences that wait, those still in the command queue included
        self._lock = threading.Lock()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def kv_tokens(self) -> int:
        return self._scheduler.kv_tokens

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; sequences that still run get NotReady."""
        self._commands.put(self._stop)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, generation: Generation, adapter: str | None, sink: Sink) -> None:
        """Put a generation in the queue. Raises Overloaded when the queue is full."""
        limits = self._scheduler.limits
        with self._lock:
            if self._submitted + len(self._sequences) >= limits.max_running + limits.max_waiting:
                raise Overloaded(
                    f"{limits.max_waiting} requests wait already; try again",
                    1 + limits.max_waiting // limits.max_running,
                )
            self._submitted += 1
        self._commands.put(lambda: self._add(generation, adapter, sink))

    def cancel(self, id_: str) -> None:
        self._commands.put(lambda: self._cancel(id_))

    def call(self, func: Callable[[], T]) -> Future[T]:
        """Run `func` between two steps, where adapters may be changed."""
        future: Future[T] = Future()

        def command() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(func())
            except (RequestError, InputError, RuntimeError, OSError) as error:
                future.set_exception(error)

        self._commands.put(command)
        return future

    def read_adapter(self, name: str, folder: Path, strength: float) -> Adapter:
        """From any thread: nothing stops while files are read. Raises InputError."""
        return Adapter.load(name, folder, strength, self._model.like)

    def add_adapter(self, adapter: Adapter) -> None:
        """Only within `call`, or before `start`. An adapter of the same name is replaced for requests to come."""
        self._model.lora.attach(adapter)
        self._adapters[adapter.name] = adapter

    def unload_adapter(self, name: str) -> None:
        """Requests that run with it end with it."""
        self._scheduler.prefixes.drop_adapter(self._adapters.pop(name))

    def embed(self, tokens: tuple[int, ...], adapter: str | None) -> list[float]:
        """Only within `call`."""
        if adapter is not None and adapter not in self._adapters:
            raise NotReady(f"the adapter {adapter!r} was unloaded while the request waited")
        vector: list[float] = self._model.embed(tokens, self._adapters.get(adapter or "")).tolist()
        return vector

    def stats(self) -> EngineStats:
        scheduler = self._scheduler
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + self._submitted,
            kv_usage=scheduler.kv_usage,
            prefix_queries=scheduler.prefixes.queries,
            prefix_hits=scheduler.prefixes.hits,
        )

    def _run(self) -> None:
        while not self._stopping:
            self._take_commands()
            shares = [] if self._stopping else self._scheduler.plan()
            if shares:
                self._step(shares)
        for sequence in self._scheduler.all():
            sequence.sink(NotReady("the server stops; ask again"))

    def _take_commands(self) -> None:
        """All that came; waits for one when there is nothing to run."""
        is_idle = not self._scheduler.running and not self._scheduler.waiting
        try:
            self._commands.get(block=is_idle)()
            while True:
                self._commands.get_nowait()()
        except queue.Empty:
            return

    def _step(self, shares: list[Share]) -> None:
        try:
            logits = self._model.run(shares)
            with_result = [share for share in shares if share.has_result]
            choices = choose_all(logits, [share.sequence.sampler for share in with_result])
            self._failures = 0
        except (RuntimeError, MemoryError, IndexError, ValueError) as error:
            self._fail(shares, error)
            return
        for share in shares:
            share.sequence.done = min(share.position + len(share.tokens), len(share.sequence.generation.prompt))
        for share, choice in zip(with_result, choices, strict=True):
            self._advance(share.sequence, choice)

    def _advance(self, sequence: Sequence, choice: Choice) -> None:
        sampling = sequence.generation.sampling
        sequence.sampler.note(choice.token)
        is_end = choice.token in sequence.sampler.ends and (not sampling.ignore_eos or sampling.guide is not None)
        is_stop = is_end or choice.token in sampling.stop_token_ids or sequence.sampler.is_done
        is_full = sequence.sampler.count >= sampling.max_tokens
        sequence.tokens.append(choice.token)
        sequence.pending = choice.token
        finish: FinishReason | None = "stop" if is_stop else "length" if is_full else None
        if finish:
            self._forget(sequence)
        hides_token = is_end or choice.token in sampling.stop_token_ids
        sequence.sink(Token(choice.token, finish, hides_token, choice.logprob, choice.top))

    def _fail(self, shares: list[Share], error: Exception) -> None:
        traceback.print_exception(error)
        self._model.attention.drop()
        self._failures += 1
        for share in shares:
            self._forget(share.sequence, keep=False)
            share.sequence.sink(RequestError(f"the engine failed on this step: {type(error).__name__}: {error}"))
        if self._failures >= MAX_FAILURES:
            self._stopping = True

    def _forget(self, sequence: Sequence, keep: bool = True) -> None:
        if not keep:
            sequence.cache.length = 0  # what is in it cannot be trusted
        self._scheduler.remove(sequence)
        self._sequences.pop(sequence.generation.id, None)

    def _add(self, generation: Generation, adapter: str | None, sink: Sink) -> None:
        is_known = adapter is None or adapter in self._adapters
        with self._lock:
            self._submitted -= 1
            if is_known:
                sampler = Sampler(generation.sampling, generation.prompt, self._model.ends)
                found = None if adapter is None else self._adapters[adapter]
                sequence = self._sequences[generation.id] = Sequence(generation, found, sampler, sink)
        if is_known:
            self._scheduler.add(sequence)
        else:
            sink(NotReady(f"the adapter {adapter!r} was unloaded while the request waited"))

    def _cancel(self, id_: str) -> None:
        sequence = self._sequences.get(id_)
        if sequence is not None:
            self._forget(sequence)

    def _stop(self) -> None:
        self._stopping = True
