"""One answer: the engine's tokens made into text, counted and timed, for whichever endpoint asked."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from kaito.runtime.serve.engines.base import Engine, Generation, Sampling, Token
from kaito.runtime.serve.metrics import Metrics
from kaito.runtime.serve.text import TextStream


@dataclass(frozen=True)
class Wanted:
    """What to generate: one sequence, and the texts that end it."""

    model: str
    prompt: tuple[int, ...]
    sampling: Sampling
    stop: Sequence[str] = ()
    keep_stop: bool = False
    keep_special: bool = False
    arrived: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Piece:
    """New text (may be empty), the tokens behind it, and the finish reason with the last one."""

    text: str
    tokens: tuple[Token, ...]
    finish: str | None = None


@dataclass
class Answer:
    """A whole answer. `tokens` holds the end token too where the model wrote one."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str = "stop"


class Answers:
    """Makes answers with one engine."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def stream(self, wanted: Wanted) -> AsyncGenerator[Piece, None]:
        """Pieces as they come. Closing the iterator, or a stop text, takes the sequence out of the batch."""
        text = TextStream(
            self._engine.vocabulary, wanted.stop, keep_stop=wanted.keep_stop, keep_special=wanted.keep_special
        )
        generation = Generation(uuid.uuid4().hex, wanted.model, wanted.prompt, wanted.sampling)
        last = first = wanted.arrived
        count = 0
        async with contextlib.aclosing(self._engine.generate(generation)) as tokens:
            async for token in tokens:
                last = self._timed(wanted, last, is_first=not count)
                first = first if count else last
                count += 1
                new = "" if token.is_end else text.push(token.id)
                finish = token.finish
                if finish and not text.stopped:
                    new += text.finish()
                if text.stopped:
                    finish = "stop"
                if finish:
                    self._count_finished(wanted, finish, count, first, last)
                yield Piece(new, (token,), finish)
                if finish:
                    return

    async def whole(self, wanted: Wanted) -> Answer:
        answer = Answer()
        async with contextlib.aclosing(self.stream(wanted)) as pieces:
            async for piece in pieces:
                answer.text += piece.text
                answer.tokens += piece.tokens
                answer.finish = piece.finish or answer.finish
        return answer

    async def all(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """Several at once; when one fails the others are taken out of the batch too."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.whole(one)) for one in wanted]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [task.result() for task in tasks]

    async def merged(self, wanted: Sequence[Wanted]) -> AsyncGenerator[tuple[int, Piece], None]:
        """Pieces of several answers as they come, each with the number of its answer."""
        if len(wanted) == 1:
            async with contextlib.aclosing(self.stream(wanted[0])) as alone:
                async for one in alone:
                    yield 0, one
            return
        pieces: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue()

        async def read(index: int, one: Wanted) -> None:
            try:
                async with contextlib.aclosing(self.stream(one)) as stream:
                    async for piece in stream:
                        pieces.put_nowait((index, piece))
                pieces.put_nowait((index, None))
            except Exception as error:  # noqa: BLE001 - carried to the reader, which raises it
                pieces.put_nowait((index, error))

        tasks = [asyncio.create_task(read(index, one)) for index, one in enumerate(wanted)]
        try:
            open_ = len(tasks)
            while open_:
                index, piece = await pieces.get()
                if piece is None:
                    open_ -= 1
                elif isinstance(piece, BaseException):
                    raise piece
                else:
                    yield index, piece
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _timed(self, wanted: Wanted, last: float, *, is_first: bool) -> float:
        now = time.monotonic()
        metrics = self._metrics
        metrics.generation_tokens.inc()
        if is_first:
            metrics.prompt_tokens.inc(len(wanted.prompt))
            metrics.first_token.observe(now - last)
        else:
            metrics.between_tokens.observe(now - last)
            metrics.per_output_token.observe(now - last)
        return now

    def _count_finished(self, wanted: Wanted, finish: str, count: int, first: float, last: float) -> None:
        metrics = self._metrics
        metrics.finished(finish)
        metrics.end_to_end.observe(last - wanted.arrived)
        metrics.decode_time.observe(last - first)
        metrics.read.observe(len(wanted.prompt))
        metrics.written.observe(count)
        metrics.asked.observe(wanted.sampling.max_tokens)
