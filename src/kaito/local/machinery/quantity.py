"""Kubernetes quantities: `100m`, `1.5Gi`, `2e3`, and back to their shortest text.

A quantity is a decimal number with a suffix of tens or of twos. Arithmetic is in `Decimal`, since `0.1` must stay
`100m`.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal
from typing import Final

_PATTERN: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d{1,3}))?")
_SUFFIXES: Final[dict[str, Decimal]] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
} | {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_BINARY: Final = tuple((f"{letter}i", 1024**power) for power, letter in reversed(list(enumerate("KMGTPE", 1))))
_DECIMAL: Final = (("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3))
_SMALL: Final = (("m", 3), ("u", 6), ("n", 9))


class QuantityError(ValueError):
    """A text that is no quantity."""


def parse_quantity(text: str | int | float) -> Decimal:
    """The number that a quantity stands for.

    Raises QuantityError. Finer than a nano is rounded up, as Kubernetes does.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise QuantityError(f"quantity {text!r}: a text such as 500m or 2Gi is needed")
    found = _PATTERN.fullmatch(str(text).strip()) if isinstance(text, str) else _PATTERN.fullmatch(repr(text))
    if found is None:
        raise QuantityError(f"quantity {text!r}: a number is needed, with at most one suffix such as m, k, Ki, Mi, Gi")
    number, suffix, exponent = found.groups()
    value = Decimal(number)
    if suffix:
        value *= _SUFFIXES[suffix]
    elif exponent:
        value = value.scaleb(int(exponent))
    # Scaled by a nano's digits, a value that a nano can tell is whole.
    nanos = value.scaleb(9)
    return value if nanos == nanos.to_integral_value() else nanos.to_integral_value(rounding=ROUND_UP).scaleb(-9)


def format_quantity(value: Decimal | int, *, binary: bool = False) -> str:
    """The canonical text: the largest suffix that leaves a whole number.

    `binary` uses Ki, Mi, ... where that is whole.
    """
    amount = Decimal(value)
    if amount == 0:
        return "0"
    if amount == amount.to_integral_value():
        return _format_whole(int(amount), binary)
    for suffix, digits in _SMALL:
        scaled = amount.scaleb(digits)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return f"{int(amount.scaleb(9).to_integral_value(rounding=ROUND_UP))}n"


def _format_whole(amount: int, binary: bool) -> str:
    if binary:
        for suffix, factor in _BINARY:
            if amount % factor == 0:
                return f"{amount // factor}{suffix}"
        return str(amount)
    for suffix, digits in _DECIMAL:
        if amount % 10**digits == 0:
            return f"{amount // 10**digits}{suffix}"
    return str(amount)


def canonical(text: str | int) -> str:
    """A quantity in its shortest text, keeping to twos where it was written in twos: `1024Mi` is `1Gi`."""
    return format_quantity(parse_quantity(text), binary=str(text).endswith("i"))
