"""Examples as tokens with labels: what the model reads, and which of it is learnt.

Loss falls on the assistant's turns of a chat (with the token that ends them), on the completion of a pair, and on all
of a plain text. Labels that are not learnt are -100, torch's ignore index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jinja2

from kaito.runtime.data.dataset import Placed, decode_messages
from kaito.runtime.data.rows import Example, Message, Rejection, Unusable

IGNORED = -100


@dataclass(frozen=True)
class Tokens:
    """One row: `input_ids` and `labels` of the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def learnt(self) -> int:
        return sum(label != IGNORED for label in self.labels)


@dataclass
class Tokenized:
    """All rows, and what became of them."""

    rows: list[Tokens] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of each row, where it came from: file:line."""
    rejections: list[Rejection] = field(default_factory=list)
    truncated_rows: int = 0
    truncated_tokens: int = 0

    @property
    def tokens(self) -> int:
        return sum(len(row.input_ids) for row in self.rows)


class Encoder:
    """Turns Examples into Tokens with one tokenizer. `assistant_only`: loss on the assistant's turns alone."""

    def __init__(self, tokenizer: Any, assistant_only: bool = True, completion_only: bool = True) -> None:
        self._tokenizer = tokenizer
        self._assistant_only = assistant_only
        self._completion_only = completion_only
        template = tokenizer.chat_template or ""
        self._has_template = bool(template)
        self._marks_generation = "{% generation" in template or "{%- generation" in template

    def encode(self, example: Example) -> Tokens:
        """Raises Unusable when the chat template refuses the row, or nothing in it is learnt."""
        if example.kind == "chat":
            tokens = self._chat(example.messages, example.tools, self._assistant_only)
        elif example.kind == "pair":
            tokens = self._pair(example)
        else:
            ids = self._plain(example.text) + self._end()
            tokens = Tokens(ids, list(ids))
        if not tokens.learnt:
            raise Unusable("nothing in the row is learnt after tokenization")
        return tokens

    def _chat(self, messages: tuple[Message, ...], tools: str, learnt_only: bool) -> Tokens:
        if not self._has_template:
            raise Unusable("the model has no chat template, so it cannot be tuned on chats; give prompt and completion")
        turns = decode_messages(messages)
        given = {"tools": _decode_tools(tools)} if tools else {}
        try:
            if not learnt_only:
                ids = self._tokenizer.apply_chat_template(turns, return_dict=True, **given)["input_ids"]
                return Tokens(ids, list(ids))
            if self._marks_generation:
                return self._by_marks(turns, given)
            return self._by_text(turns, given)
        except (jinja2.TemplateError, TypeError, KeyError) as error:
            raise Unusable(f"the model's chat template refuses the row: {error}") from error

    def _by_marks(self, turns: list[dict[str, Any]], given: dict[str, Any]) -> Tokens:
        done = self._tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True, **given)
        ids, mask = done["input_ids"], done["assistant_masks"]
        return Tokens(ids, [one if learnt else IGNORED for one, learnt in zip(ids, mask, strict=True)])

    def _by_text(self, turns: list[dict[str, Any]], given: dict[str, Any]) -> Tokens:
        """For templates without {% generation %}: what each assistant turn adds to the rendered text is learnt."""
        render = self._tokenizer.apply_chat_template
        text = render(turns, tokenize=False, **given)
        spans = []
        for index, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            before = render(turns[:index], tokenize=False, add_generation_prompt=True, **given)
            after = render(turns[: index + 1], tokenize=False, **given)
            if not (text.startswith(before) and after.startswith(before)):
                raise Unusable("the model's chat template changes earlier turns, so the answers cannot be told apart")
            spans.append((len(before), len(_common(after, text))))
        done = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = done["input_ids"], done["offset_mapping"]
        learnt = [any(start >= low and end <= high and end > start for low, high in spans) for start, end in offsets]
        return Tokens(ids, [one if use else IGNORED for one, use in zip(ids, learnt, strict=True)])

    def _pair(self, example: Example) -> Tokens:
        """A pair is asked and answered through the chat template where the model has one, as serving will do."""
        if self._has_template:
            turns = (Message("user", example.prompt), Message("assistant", example.completion))
            return self._chat(turns, "", self._completion_only)
        prompt = self._plain(example.prompt)
        completion = self._tokenizer(example.completion, add_special_tokens=False)["input_ids"] + self._end()
        shown = [IGNORED] * len(prompt) if self._completion_only else prompt
        return Tokens(prompt + completion, [*shown, *completion])

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    def _end(self) -> list[int]:
        end = self._tokenizer.eos_token_id
        return [] if end is None else [int(end)]


def tokenize(rows: Iterable[Placed], encoder: Encoder, max_length: int | None) -> Tokenized:
    """All rows that can be learnt from, cut to `max_length` tokens."""
    result = Tokenized()
    for placed in rows:
        try:
            tokens = encoder.encode(placed.example)
            cut = len(tokens.input_ids) - max_length if max_length else 0
            if cut > 0:
                tokens = Tokens(tokens.input_ids[:max_length], tokens.labels[:max_length])
                result.truncated_rows += 1
                result.truncated_tokens += cut
                if not tokens.learnt:
                    raise Unusable(f"its answer begins after the first {max_length} tokens (max_length)")
        except Unusable as error:
            result.rejections.append(Rejection(placed.file, placed.line, str(error)))
            continue
        result.rows.append(tokens)
        result.names.append(f"{placed.file}:{placed.line}")
    return result


def batches_of(rows: list[Tokens], budget: int) -> Iterator[list[Tokens]]:
    """Rows in groups of at most `budget` tokens (always at least one row)."""
    group: list[Tokens] = []
    size = 0
    for row in rows:
        if group and size + len(row.input_ids) > budget:
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row.input_ids)
    if group:
        yield group


def _decode_tools(text: str) -> Any:
    import json

    return json.loads(text)


def _common(one: str, other: str) -> str:
    """The common beginning of two texts: what a turn renders to inside the whole conversation."""
    if other.startswith(one):
        return one
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]
