"""The one line of `kaito.sh/promote-if`: what it says, what it refuses, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.api.promotion import parse_promotion

MEASURED = {
    "evalLoss": 1.0, "baseEvalLoss": 2.0, "perplexity": 2.72, "basePerplexity": 7.39, "exactMatch": 0.5,
    "baseExactMatch": 0.25,
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "evalLoss < base",
        "evalloss<base",
        "evalLoss <= 0.5 * base",
        "evalLoss <= base * 0.5",
        "evalLoss <= base/2",
        "evalLoss < 1.5",
        "evalLoss < 1e3",
        "perplexity < 3",
        "exactMatch >= base + 0.25",
        "exactMatch > base - .1",
        "evalLoss < base and exactMatch > 0.4",
        "evalLoss < base AND perplexity < 3, exactMatch == 0.5",
        "evalLoss < base && exactMatch >= base",
    ],
)
def test_holds(text: str) -> None:
    assert parse_promotion(text).why_not(MEASURED) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("evalLoss > base", "evalLoss is 1, which is not > 2 (base 2)"),
        ("evalLoss < 0.4 * base", "evalLoss is 1, which is not < 0.8 (base 2)"),
        ("perplexity < 2", "perplexity is 2.72, which is not < 2"),
        ("evalLoss < base and exactMatch > 0.9", "exactMatch is 0.5, which is not > 0.9"),
    ],
)
def test_does_not_hold(text: str, why: str) -> None:
    assert parse_promotion(text).why_not(MEASURED) == why


def test_what_was_not_measured_does_not_hold() -> None:
    assert parse_promotion("exactMatch > 0.1").why_not({"evalLoss": 1.0}) == "exactMatch was not measured"
    assert "base model" in parse_promotion("evalLoss < base").why_not({"evalLoss": 1.0})
    assert parse_promotion("evalLoss < 2").why_not({"evalLoss": 1.0}) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("evalLoss", '"evalLoss" is not a comparison'),
        ("evalLos < base", "did you mean evalLoss?"),
        ("accuracy > 1", "the metrics are evalLoss, perplexity, exactMatch"),
        ("evalLoss = base", '"=" is not a comparison'),
        ("evalLoss != base", '"!=" is not a comparison'),
        ("evalLoss < bass", '"bass" is neither a number nor base'),
        ("evalLoss < base / 0", "neither a number nor base"),
        ("evalLoss < ", "neither a number nor base"),
        ("evalLoss < 1e999", "too large"),
        ("evalLoss < base or exactMatch > 1", "neither a number nor base"),
        ("evalLoss < base and", "neither a number nor base"),
        ("x" * 501, "longer than 500"),
    ],
)
def test_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_promotion(text)
    assert words in str(caught.value)


@given(st.text(max_size=60) | st.from_regex(r"(evalLoss|perplexity) ?[<>=]{1,2} ?(base)?[*+/-]?[0-9.e]{0,6}"))
def test_any_text_is_a_gate_or_a_value_error(text: str) -> None:
    try:
        promotion = parse_promotion(text)
    except ValueError as error:
        assert str(error)
    else:
        promotion.why_not(MEASURED)
