"""Quantities, to a number and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.local.machinery.quantity import QuantityError, canonical, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", Decimal("0.1")),
        ("1.5Gi", Decimal(3 * 2**29)),
        ("2k", Decimal(2000)),
        ("1e3", Decimal(1000)),
        ("1E3", Decimal(1000)),
        ("5E", Decimal(5) * 10**18),
        ("-3", Decimal(-3)),
        ("+.5", Decimal("0.5")),
        ("0.1n", Decimal("1e-9")),
        (7, Decimal(7)),
        (0.5, Decimal("0.5")),
    ],
)
def test_parse(text: Any, value: Decimal) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1gi", "1e", "--1", "1KiB", None, True, "1e9999"])
def test_refused(text: Any) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024Mi", "1Gi"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1500", "1500"),
        ("2000", "2k"),
        ("0", "0"),
        ("1.5Gi", "1536Mi"),
    ],
)
def test_canonical(text: str, expected: str) -> None:
    assert canonical(text) == expected


@given(st.integers(-(10**15), 10**15), st.booleans())
def test_thousandths_survive_a_round(thousandths: int, binary: bool) -> None:
    value = Decimal(thousandths) / 1000
    assert parse_quantity(format_quantity(value, binary=binary)) == value
