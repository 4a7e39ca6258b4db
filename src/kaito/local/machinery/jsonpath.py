"""The JSONPath of printer columns: fields, indexes, wildcards and filters such as `[?(@.type=="Ready")]`.

This is the part of kubectl's dialect that CRDs use. A path is parsed once and then applied to every object of a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

Step = Callable[[Any], Iterator[Any]]

_FIELD: Final = re.compile(r"\.((?:\\.|[^.\[\\])+)")
_QUOTED: Final = re.compile(r"\[(?:'((?:\\.|[^'])*)'|\"((?:\\.|[^\"])*)\")\]")
_INDEX: Final = re.compile(r"\[(-?\d+)\]")
_SLICE: Final = re.compile(r"\[(-?\d*):(-?\d*)\]")
_WILDCARD: Final = re.compile(r"\.\*|\[\*\]")
_FILTER: Final = re.compile(r"\[\?\(\s*(@[^=!<>]*?)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?)\s*)?\)\]")
_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda one, other: bool(one == other),
    "!=": lambda one, other: bool(one != other),
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
}


class JSONPathError(ValueError):
    """A path that this dialect does not know."""


@lru_cache(maxsize=1024)
def parse(path: str) -> tuple[Step, ...]:
    """The steps of a path such as `.status.conditions[?(@.type=="Ready")].status`. Raises JSONPathError."""
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(text):
        step, position = _step(text, position)
        steps.append(step)
    return tuple(steps)


def find(path: str, obj: Any) -> list[Any]:
    """All values at a path, in order. Raises JSONPathError."""
    values = [obj]
    for step in parse(path):
        values = [found for value in values for found in step(value)]
    return values


def _step(text: str, position: int) -> tuple[Step, int]:
    for pattern, build in _STEPS:
        found = pattern.match(text, position)
        if found:
            return build(found), found.end()
    raise JSONPathError(f"JSONPath {text!r}: {text[position:]!r} is not understood")


def _field(found: re.Match[str]) -> Step:
    return _key_step(re.sub(r"\\(.)", r"\1", found[1]))


def _quoted(found: re.Match[str]) -> Step:
    return _key_step(re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2]))


def _key_step(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(found: re.Match[str]) -> Step:
    number = int(found[1])

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= number < len(value):
            yield value[number]

    return step


def _slice(found: re.Match[str]) -> Step:
    start, stop = (int(text) if text else None for text in found.groups())

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[start:stop]

    return step


def _wildcard(_: re.Match[str]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value

    return step


def _filter(found: re.Match[str]) -> Step:
    path, operator, literal = found.groups()
    inner = parse(path.removeprefix("@"))
    wanted = _literal(literal) if operator else None

    def holds(item: Any) -> bool:
        values = [item]
        for step in inner:
            values = [deeper for value in values for deeper in step(value)]
        if not operator:
            return bool(values)
        try:
            return any(_OPERATORS[operator](value, wanted) for value in values)
        except TypeError:  # a text compared with a number
            return False

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (item for item in value if holds(item))

    return step


def _literal(text: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    try:
        return json.loads(text)
    except ValueError as error:
        raise JSONPathError(f"JSONPath filter: {text!r} is neither a quoted text nor a number") from error


_STEPS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Step]], ...]] = (
    (_WILDCARD, _wildcard),
    (_FIELD, _field),
    (_QUOTED, _quoted),
    (_INDEX, _index),
    (_SLICE, _slice),
    (_FILTER, _filter),
)
