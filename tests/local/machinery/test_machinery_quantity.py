"""Quantities, to a number and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.local.machinery.apply import apply
from kaito.local.machinery.quantity import QuantityError, canonical, format_quantity, parse_quantity
from tests.local.machinery.builders import kind


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


def limits(**amounts: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"limits": amounts}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def test_quantities_of_builtin_kinds_are_kept_short() -> None:
    pod = limits(cpu=1, memory="1024Mi", other=0.5)
    kind("Pod").schema.default(pod)
    assert pod["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1", "memory": "1Gi", "other": "500m"}}
    assert kind("Pod").schema.validate(pod) == []


def test_a_bad_quantity_is_named() -> None:
    (cause,) = kind("Pod").schema.validate(limits(cpu="one"))
    assert str(cause) == (
        'spec.containers[0].resources.limits.cpu: Invalid value: "one": quantities must match the regular expression '
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )


def test_two_spellings_of_one_amount_do_not_conflict() -> None:
    options = {"force": False, "schema": kind("Pod").schema, "api_version": "v1", "subresource": "", "now": "T"}
    live = apply(None, limits(cpu="1000m"), manager="one", **options)
    assert apply(live, limits(cpu=1), manager="two", **options)["spec"] == live["spec"]
