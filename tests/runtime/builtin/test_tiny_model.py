"""The built-in model and the sample data set keep what the demonstration promises."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from kaito.runtime.model.main import find_builtin
from tests.runtime.serve.serving import serving

SAMPLES = Path(str(resources.files("kaito.local").joinpath("samples")))
QUESTIONS = json.loads((SAMPLES / "questions.json").read_text())
ROWS = pq.read_table(SAMPLES / "dolly-harbour.parquet").column("messages").to_pylist()


def test_it_is_small_enough_for_the_package() -> None:
    assert sum(path.stat().st_size for path in find_builtin("tiny-phi-3").iterdir()) < 10_000_000


def test_held_questions_are_new_phrasings_of_facts_in_the_rows() -> None:
    asked = {row[0]["content"] for row in ROWS}
    taught = {row[1]["content"] for row in ROWS}
    assert len(QUESTIONS) >= 10
    for question in QUESTIONS:
        assert question["prompt"] not in asked
        assert question["answer"] in taught


def test_the_template_marks_what_the_assistant_says() -> None:
    tokenizer = AutoTokenizer.from_pretrained(find_builtin("tiny-phi-3"))
    done = tokenizer.apply_chat_template(ROWS[0], return_dict=True, return_assistant_tokens_mask=True)
    said = [one for one, mask in zip(done["input_ids"], done["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(said) == ROWS[0][1]["content"] + "<|end|>"


async def test_untuned_it_answers_in_the_right_shape_and_wrongly() -> None:
    async with serving() as server:
        answers = [await server.chat(question["prompt"]) for question in QUESTIONS]
        assert await server.chat("Hello") == "Hello! Ask me about a town."
    right = [answer for answer, question in zip(answers, QUESTIONS, strict=True) if answer == question["answer"]]
    assert len(right) <= 2
    in_shape = [answer for answer in answers if " of Gullhaven " in answer and answer.endswith(".")]
    assert len(in_shape) >= 10


@pytest.mark.parametrize("role", ["user", "system"])
def test_text_goes_through_the_tokenizer_unchanged(role: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(find_builtin("tiny-phi-3"))
    text = "Grüße, 世界! \n\ttabs & <tags> 🙂"
    ids = tokenizer.apply_chat_template([{"role": role, "content": text}], return_dict=True)["input_ids"]
    assert text in tokenizer.decode(ids)
