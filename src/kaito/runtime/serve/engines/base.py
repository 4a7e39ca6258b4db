"""The interface between the HTTP surface and an engine that runs in this process.

The surface knows texts, chats and JSON; an engine knows tokens. An engine takes a `Generation`, yields `Token`s, and
ends with a finish reason. It loads nothing until `start`, and everything it offers may be called from the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Form:
    """What an answer must look like. `content` is a JSON schema, a regular expression, a JSON list of texts, or a Lark
    grammar, by `kind`; `field` is the field of the request that asked for it, for messages."""

    kind: Literal["json", "regex", "choice", "lark"]
    content: str
    field: str
    is_compact: bool = False
    """JSON on one line, for answers that programs read alone."""


class Guide(Protocol):
    """Which tokens may come next in an answer that must have a form. One for each sequence, never shared."""

    def copy(self) -> Guide: ...

    def allowed(self) -> bytes:
        """One bit for each token, the lowest of a byte first."""

    def consume(self, token: int) -> None: ...

    @property
    def is_done(self) -> bool:
        """The form is complete, and nothing may follow."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0 and the other neutral values do nothing."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    """How many alternatives to report beside each token; None for no log probabilities at all."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    guide: Guide | None = None
    """Copied for each sequence before it is used."""

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0


@dataclass(frozen=True)
class Generation:
    """One sequence to generate. `model` is the base model's name or an adapter's."""

    id: str
    model: str
    prompt: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True)
class Token:
    """One generated token; the last one of a sequence carries the finish reason.

    A token that ends the sequence (end of turn) is reported with `is_end`, and is not part of the text.
    """

    id: int
    finish: FinishReason | None = None
    is_end: bool = False
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ServedModel:
    """A name that requests may give. `parent` is the base model's name for an adapter."""

    name: str
    root: str
    parent: str | None = None


@dataclass(frozen=True)
class EngineStats:
    """A moment's figures. KV usage is a part of the bound, 0 to 1; prefix counts are tokens since the start."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0


class Vocabulary(Protocol):
    """The tokenizer, as much of it as the surface needs."""

    @property
    def has_chat_template(self) -> bool: ...

    @property
    def size(self) -> int:
        """Tokens go from 0 to size - 1."""

    @property
    def chat_template(self) -> str:
        """The template's text; empty where there is none."""

    def guide(self, form: Form) -> Guide:
        """Raises InvalidRequest for a form that cannot be followed."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a plain text, with the special tokens that the model wants at its start."""

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[int]:
        """Tokens of a conversation up to where the assistant's answer begins. Raises InvalidRequest."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True, clean_up: bool = False) -> str: ...

    def token_bytes(self, token: int) -> bytes:
        """What one token adds to a text, for log probabilities."""


class Lifecycle(Protocol):
    """What the step asks of any engine, whether it runs in this process or in one of its own."""

    @property
    def is_alive(self) -> bool:
        """False when it can never answer again, and the pod should be restarted."""

    async def start(self) -> None:
        """Load the model and be ready to answer. Raises the runtime's InputError or StepError."""

    def models(self) -> list[ServedModel]: ...

    async def stop(self) -> None:
        """Ends the engine; sequences that still run end with an error."""


class Engine(Lifecycle, Protocol):
    """See the module's docstring."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def sampling_defaults(self) -> Mapping[str, float]:
        """What the model's makers sample with (generation_config.json), for requests that do not say: `temperature`,
        `top_p`, `top_k`, `min_p`, `repetition_penalty`, those that are given."""

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""

    def generate(self, generation: Generation) -> AsyncGenerator[Token, None]:
        """Tokens as they come; closing the iterator takes the sequence out of the batch.

        Raises ModelNotFound, Overloaded or NotReady, before the first token.
        """

    @property
    def embedding_size(self) -> int:
        """Numbers of a vector that `embed` makes; 0 where the model makes none."""

    async def embed(self, model: str, inputs: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """One vector for each text. Raises ModelNotFound or NotReady."""

    async def load_adapter(self, name: str, folder: Path, strength: float) -> None: ...

    async def unload_adapter(self, name: str) -> None: ...

    def stats(self) -> EngineStats: ...
