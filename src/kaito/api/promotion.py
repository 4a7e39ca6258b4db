"""`kaito.sh/promote-if`: what a tuned model has to reach before it is served, as one line such as `evalLoss < base`.

    evalLoss < base                      better than the base model on the held-out part
    evalLoss < 0.9 * base                by a tenth
    perplexity <= 12                     a number
    exactMatch >= base + 0.05 and evalLoss < 2.5

`base` is the base model's own value of the metric on the left. Losses and perplexity are better when they are lower,
`exactMatch` (0 to 1) when it is higher; the comparison says which way is meant.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

METRICS = {"evalLoss": "baseEvalLoss", "perplexity": "basePerplexity", "exactMatch": "baseExactMatch"}
"""Each metric of a tuned model, and the name of the same metric of its base."""
EXAMPLE = 'write it as "evalLoss < base", "perplexity <= 12" or "exactMatch >= base + 0.05"'
MAX_LENGTH = 500
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+"
_AND = re.compile(r"\s+and\s+|\s*&&\s*|\s*,\s*", re.IGNORECASE)
_CLAUSE = re.compile(r"\s*([A-Za-z_]+)\s*(<=|>=|==|=|<|>|!=)\s*(.*?)\s*", re.DOTALL)
_NUMBER_ALONE = re.compile(rf"([+-]?(?:{_NUMBER}))")
_BASE_FIRST = re.compile(rf"base(?:\s*([*/+-])\s*({_NUMBER}))?", re.IGNORECASE)
_BASE_LAST = re.compile(rf"({_NUMBER})\s*\*\s*base", re.IGNORECASE)


@dataclass(frozen=True)
class Clause:
    """`metric` compared with `factor * base + offset`; a factor of 0 leaves the base out."""

    text: str
    metric: str
    comparison: str
    factor: float
    offset: float

    def why_not(self, measured: Mapping[str, float]) -> str:
        """Empty when it holds; else what is in its way, with the numbers."""
        value = measured.get(self.metric)
        if value is None:
            return f"{self.metric} was not measured"
        base = measured.get(METRICS[self.metric])
        if self.factor and base is None:
            return f"{self.metric} of the base model was not measured"
        limit = self.factor * (base or 0.0) + self.offset
        if _COMPARE[self.comparison](value, limit):
            return ""
        against = f"{limit:.4g}" + (f" (base {base:.4g})" if self.factor and base is not None else "")
        return f"{self.metric} is {value:.4g}, which is not {self.comparison} {against}"


@dataclass(frozen=True)
class Promotion:
    """All clauses have to hold."""

    clauses: tuple[Clause, ...]

    def why_not(self, measured: Mapping[str, float]) -> str:
        return "; ".join(filter(None, (clause.why_not(measured) for clause in self.clauses)))


@lru_cache(maxsize=256)
def parse_promotion(text: str) -> Promotion:
    """Raises ValueError, whose text says which part is wrong and how to write it."""
    if not text.strip():
        raise ValueError(f"it is empty; {EXAMPLE}, or remove it")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it is longer than {MAX_LENGTH} characters")
    return Promotion(tuple(_clause(part) for part in _AND.split(text.strip())))


def _clause(text: str) -> Clause:
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text.strip()}" is not a comparison; {EXAMPLE}')
    name, comparison, right = match.groups()
    metric = next((known for known in METRICS if known.lower() == name.lower()), "")
    if not metric:
        near = difflib.get_close_matches(name, METRICS, 1, 0.5)
        meant = f"; did you mean {near[0]}?" if near else f"; the metrics are {', '.join(METRICS)}"
        raise ValueError(f'"{name}" is not a metric{meant}')
    if comparison not in _COMPARE:
        raise ValueError(f'"{comparison}" is not a comparison; use one of {", ".join(_COMPARE)}')
    factor, offset = _limit(right)
    return Clause(text.strip(), metric, comparison, factor, offset)


def _limit(text: str) -> tuple[float, float]:
    """(factor, offset) of the right side. Raises ValueError."""
    if match := _NUMBER_ALONE.fullmatch(text):
        return 0.0, _finite(match[1])
    if match := _BASE_LAST.fullmatch(text):
        return _finite(match[1]), 0.0
    if match := _BASE_FIRST.fullmatch(text):
        number = _finite(match[2]) if match[2] else 0.0
        match match[1]:
            case "*":
                return number, 0.0
            case "/" if number:
                return 1 / number, 0.0
            case "+":
                return 1.0, number
            case "-":
                return 1.0, -number
            case None:
                return 1.0, 0.0
    raise ValueError(f'"{text}" is neither a number nor base, as in 0.9 * base or base + 0.05')


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value
