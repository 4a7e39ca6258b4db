"""Texts in pieces: nothing is shown that could still change, and nothing is held for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kaito.runtime.serve.text import TextStream


class Bytes:
    """A tokenizer whose tokens are bytes, as those of many models are at the edges."""

    has_chat_template = False
    chat_template = ""
    size = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int], *, skip_special: bool = True, clean_up: bool = False) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])

    def guide(self, form: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("plain", [], "plain"),
        ("naïve 🙂 日本", [], "naïve 🙂 日本"),
        ("one two three", ["two"], "one "),
        ("one two three", ["twist", "three"], "one two "),
        ("ends with a beginning: th", ["three"], "ends with a beginning: th"),
    ],
)
def test_pieces_make_the_whole(text: str, stop: list[str], shown: str) -> None:
    vocabulary = Bytes()
    stream = TextStream(vocabulary, stop)
    pieces = []
    for token in vocabulary.encode(text):
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    assert "".join(pieces) + stream.finish() == shown
    assert all("\ufffd" not in piece for piece in pieces)


def test_bytes_that_never_become_a_character_are_not_held_for_ever() -> None:
    stream = TextStream(Bytes())
    pieces = [stream.push(0xFF) for _ in range(40)]
    assert sum(map(len, pieces)) > 30
    assert len("".join(pieces) + stream.finish()) == 40
