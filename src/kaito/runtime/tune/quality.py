"""What the base and the tuned model answer: exact matches of short answers, and a few answers side by side.

A row's last learnt part is its answer, and all before it the question, whatever shape the row had. Both models answer
greedily, so that the same adapter always has the same report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kaito.runtime.tune.tokens import IGNORED, Tokens

SHORT = 16  # tokens of an answer that is compared to the letter
MATCHED = 64  # rows at most
SHOWN = 4  # rows whose answers are shown
SHOWN_TOKENS = 64  # tokens of a shown answer
AT_ONCE = 8  # rows in one batch
LONGEST_QUESTION = 1024  # tokens


@dataclass(frozen=True)
class Question:
    ids: list[int]
    answer: list[int]


def questions_of(rows: Sequence[Tokens], max_length: int | None) -> list[Question]:
    """Of the rows that have a question and, as far as can be told, a whole answer."""
    found = []
    for row in rows:
        start, end = _last_span(row.labels)
        is_cut = max_length is not None and len(row.input_ids) >= max_length
        if 0 < start <= LONGEST_QUESTION and end > start and not is_cut:
            found.append(Question(row.input_ids[:start], row.input_ids[start:end]))
    return found


def _last_span(labels: Sequence[int]) -> tuple[int, int]:
    """Where the last run of learnt tokens begins and ends."""
    end = len(labels)
    while end and labels[end - 1] == IGNORED:
        end -= 1
    start = end
    while start and labels[start - 1] != IGNORED:
        start -= 1
    return start, end


@dataclass(frozen=True)
class Quality:
    """`exact_match` is a share from 0 to 1, None without short answers; `samples` go into the report."""

    exact_match: float | None
    base_exact_match: float | None
    matched_rows: int
    samples: list[dict[str, str]]


def measure_quality(model: Any, tokenizer: Any, questions: Sequence[Question]) -> Quality:
    """`model` is a PEFT model: the tuned one, and the base with its adapter disabled."""
    short = [one for one in questions if len(one.answer) <= SHORT][:MATCHED]
    shown = [one for one in questions if one not in short][:SHOWN]
    shown = [*short[: max(SHOWN // 2, SHOWN - len(shown))], *shown][:SHOWN]
    with _ready_to_answer(model):
        tuned, tuned_shown = (
            answer(model, tokenizer, short, SHORT),
            answer(model, tokenizer, shown, SHOWN_TOKENS),
        )
        with model.disable_adapter():
            base, base_shown = answer(model, tokenizer, short, SHORT), answer(model, tokenizer, shown, SHOWN_TOKENS)
    expected = [_text(tokenizer, one.answer) for one in short]
    samples = [
        {
            "prompt": tokenizer.decode(one.ids, skip_special_tokens=False),
            "expected": _text(tokenizer, one.answer),
            "base": before,
            "tuned": after,
        }
        for one, before, after in zip(shown, base_shown, tuned_shown, strict=True)
    ]
    return Quality(_share(tuned, expected), _share(base, expected), len(short), samples)


def answer(model: Any, tokenizer: Any, questions: Sequence[Question], limit: int) -> list[str]:
    """What the model says to each question, at most `limit` tokens, by the likeliest token each time."""
    ends = _end_tokens(model, tokenizer, questions)
    padding = next(iter(ends))
    answers: dict[int, str] = {}
    ordered = sorted(range(len(questions)), key=lambda index: len(questions[index].ids))
    for begin in range(0, len(ordered), AT_ONCE):
        group = ordered[begin : begin + AT_ONCE]
        ids, mask = _padded_left([questions[index].ids for index in group], padding)
        device = next(model.parameters()).device
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), max_new_tokens=limit, do_sample=False,
                num_beams=1, temperature=None, top_p=None, top_k=None, use_cache=True, pad_token_id=padding,
                eos_token_id=sorted(ends),
            )  # fmt: skip
        for index, row in zip(group, made[:, ids.shape[1] :].tolist(), strict=True):
            answers[index] = _text(tokenizer, row)
    return [answers[index] for index in range(len(questions))]


@contextlib.contextmanager
def _ready_to_answer(model: Any) -> Iterator[None]:
    """Keys and values are kept while answering, which checkpointing of gradients would forbid."""
    was_training, checkpointing = model.training, getattr(model, "is_gradient_checkpointing", False)
    model.eval()
    if checkpointing:
        model.gradient_checkpointing_disable()
    try:
        yield
    finally:
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train(was_training)


def _end_tokens(model: Any, tokenizer: Any, questions: Sequence[Question]) -> set[int]:
    """What ends an answer: the model's and the tokenizer's own end, and the special token that ends learnt answers."""
    given = getattr(model.generation_config, "eos_token_id", None)
    ends = set(given if isinstance(given, list) else [given]) | {tokenizer.eos_token_id}
    special = set(tokenizer.all_special_ids)
    for one in questions:
        ends |= special.intersection(one.answer[-2:])
    ends.discard(None)
    return ends or {0}


def _padded_left(rows: Sequence[list[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), padding, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row)
        mask[index, longest - len(row) :] = 1
    return ids, mask


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _share(said: Sequence[str], expected: Sequence[str]) -> float | None:
    if not expected:
        return None
    return round(sum(one == other for one, other in zip(said, expected, strict=True)) / len(expected), 4)
