"""What is learnt of a row, with templates that mark it and templates that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.data.dataset import Placed, decode_messages
from kaito.runtime.data.rows import Example, Message, Unusable
from kaito.runtime.tune.tokens import IGNORED, Encoder, Tokens, batches_of, tokenize
from tests.runtime.tiny import TEMPLATE, make_tokenizer

UNMARKED = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
TURNS = (
    Message("user", "what is Paris"),
    Message("assistant", "the capital"),
    Message("user", "and a cat"),
    Message("assistant", "sat on"),
)


def tokenizer(folder: Path, template: str) -> Any:
    from transformers import AutoTokenizer

    make_tokenizer(folder, template)
    loaded = AutoTokenizer.from_pretrained(folder)
    if not template:
        loaded.chat_template = None
    return loaded


def learnt(tokenizer: Any, tokens: Tokens) -> str:
    return str(tokenizer.decode([label for label in tokens.labels if label != IGNORED]))


@pytest.mark.parametrize("template", [TEMPLATE, UNMARKED], ids=["marked", "unmarked"])
def test_only_the_assistant_is_learnt(template: str, tmp_path: Path) -> None:
    loaded = tokenizer(tmp_path, template)
    tokens = Encoder(loaded).encode(Example("chat", messages=TURNS))
    # A template without marks teaches the newline after <|end|> too: it is part of what the turn adds.
    assert learnt(loaded, tokens).replace("\n", "") == "the capital<|end|>sat on<|end|>"
    assert all(label in (IGNORED, one) for one, label in zip(tokens.input_ids, tokens.labels, strict=True))
    assert loaded.decode(tokens.input_ids).startswith(
        "<|user|>\nwhat is Paris<|end|>\n<|assistant|>\nthe capital<|end|>"
    )


def test_all_is_learnt_when_asked(tmp_path: Path) -> None:
    loaded = tokenizer(tmp_path, TEMPLATE)
    tokens = Encoder(loaded, assistant_only=False).encode(Example("chat", messages=TURNS))
    assert tokens.input_ids == tokens.labels


def test_pairs_go_through_the_template_as_serving_will(tmp_path: Path) -> None:
    loaded = tokenizer(tmp_path, TEMPLATE)
    pair = Encoder(loaded).encode(Example("pair", prompt="what is Paris", completion="the capital"))
    assert pair == Encoder(loaded).encode(Example("chat", messages=TURNS[:2]))


def test_pairs_without_a_template(tmp_path: Path) -> None:
    loaded = tokenizer(tmp_path, "")
    tokens = Encoder(loaded).encode(Example("pair", prompt="what is", completion=" Paris"))
    assert learnt(loaded, tokens) == " Paris<|end|>"
    assert loaded.decode(tokens.input_ids) == "what is Paris<|end|>"
    with pytest.raises(Unusable, match="no chat template"):
        Encoder(loaded).encode(Example("chat", messages=TURNS))


def test_the_arguments_of_tool_calls_reach_the_template_as_objects(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}"
        "{% for c in m['tool_calls'] or [] %}{{ c['function']['arguments']['city'] }}{% endfor %}<|end|>{% endfor %}"
    )
    loaded = tokenizer(tmp_path, template)
    calls = [
        {"function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
        "odd",
        {"function": {"arguments": "["}},
    ]
    turns = (TURNS[0], Message("assistant", "", {"tool_calls": calls[:1]}), Message("tool", "sun"), TURNS[3])
    tokens = Encoder(loaded, assistant_only=False).encode(Example("chat", messages=turns))
    assert "assistant:Paris<|end|>tool:sun" in loaded.decode(tokens.input_ids)
    assert decode_messages([Message("assistant", "", {"tool_calls": calls})])[0]["tool_calls"][1:] == calls[1:]


def test_text_is_learnt_whole_with_its_end(tmp_path: Path) -> None:
    loaded = tokenizer(tmp_path, TEMPLATE)
    tokens = Encoder(loaded).encode(Example("text", text="a cat sat"))
    assert learnt(loaded, tokens) == "a cat sat<|end|>"


def test_a_template_that_refuses_rejects_the_row_alone(tmp_path: Path) -> None:
    loaded = tokenizer(tmp_path, STRICT)
    rows = [
        Placed(Example("chat", messages=(Message("system", "x"), *TURNS)), "a.jsonl", 1),
        Placed(Example("chat", messages=TURNS), "a.jsonl", 2),
    ]
    done = tokenize(rows, Encoder(loaded), None)
    assert len(done.rows) == 1
    assert "no system role" in str(done.rejections[0])
    assert done.rejections[0].line == 1


def test_truncation_is_counted_and_rows_left_empty_are_rejected(tmp_path: Path) -> None:
    loaded = tokenizer(tmp_path, TEMPLATE)
    row = Placed(Example("chat", messages=TURNS), "a", 1)
    whole = Encoder(loaded).encode(row.example)
    first = next(index for index, label in enumerate(whole.labels) if label != IGNORED)
    done = tokenize([row], Encoder(loaded), first + 1)
    assert (done.truncated_rows, done.truncated_tokens) == (1, len(whole.input_ids) - first - 1)
    done = tokenize([row], Encoder(loaded), first)
    assert not done.rows
    assert "max_length" in done.rejections[0].why


def test_batches_keep_all_rows_within_the_budget() -> None:
    rows = [Tokens([1] * size, [1] * size) for size in (3, 4, 9, 1, 1, 20)]
    groups = list(batches_of(rows, 10))
    assert [row for group in groups for row in group] == rows
    assert all(len(group) == 1 or sum(len(row.input_ids) for row in group) <= 10 for group in groups)
