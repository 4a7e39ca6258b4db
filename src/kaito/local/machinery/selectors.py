"""Label and field selectors: from the text of a request, or a metav1.LabelSelector, to something that matches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.local.machinery.errors import StatusError, bad_request

Json = dict[str, Any]

_WORD: Final = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_NAME: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SYMBOLS: Final = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">"})


@dataclass(frozen=True)
class Requirement:
    """One term. `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, Any]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return self.key not in labels or value not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
            case _:
                return self._compares(value)

    def _compares(self, value: Any) -> bool:
        bound = int(next(iter(self.values)))
        if not isinstance(value, str) or not re.fullmatch(r"[+-]?\d+", value):
            return False
        return int(value) > bound if self.operator == "Gt" else int(value) < bound


@dataclass(frozen=True)
class LabelSelector:
    """All requirements have to hold. An empty one matches everything; `nothing` matches nothing."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, Any] | None) -> bool:
        given = labels or {}
        return not self.nothing and all(requirement.matches(given) for requirement in self.requirements)

    def __bool__(self) -> bool:
        """False where it matches everything."""
        return self.nothing or bool(self.requirements)


@dataclass(frozen=True)
class FieldRequirement:
    path: tuple[str, ...]
    equal: bool
    value: str


@dataclass(frozen=True)
class FieldSelector:
    """All requirements have to hold. A field that is absent counts as an empty text."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, obj: Json) -> bool:
        return all((_text_at(obj, item.path) == item.value) == item.equal for item in self.requirements)

    def exact(self, path: str) -> str | None:
        """The value that the field at `path` must have, such as the name in `metadata.name=a`, or None."""
        wanted = tuple(path.split("."))
        return next((item.value for item in self.requirements if item.equal and item.path == wanted), None)

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that are asked about, for the server to refuse those that a kind does not support."""
        return tuple(".".join(item.path) for item in self.requirements)

    def __bool__(self) -> bool:
        return bool(self.requirements)


def _text_at(obj: Any, path: tuple[str, ...]) -> str:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    match obj:
        case None:
            return ""
        case bool():
            return "true" if obj else "false"
        case _:
            return str(obj)


def parse_label_selector(text: str | None) -> LabelSelector:
    """`app=a,tier in (b,c),!canary`. Raises StatusError 400."""
    if not text or not text.strip():
        return LabelSelector()
    parser = _LabelParser(text)
    return LabelSelector(tuple(parser.requirements()))


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._words = [found[1] for found in _WORD.finditer(text)]
        self._position = 0

    def requirements(self) -> Iterator[Requirement]:
        while True:
            yield self._requirement()
            if self._peek() == "":
                return
            self._expect(",")

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(self._key(), "DoesNotExist")
        key = self._key()
        operator = self._peek()
        if operator in ("", ","):
            return Requirement(key, "Exists")
        self._next()
        if operator in ("=", "==", "!="):
            return Requirement(key, "NotIn" if operator == "!=" else "In", frozenset({self._value()}))
        if operator in ("in", "notin"):
            return Requirement(key, "In" if operator == "in" else "NotIn", self._values())
        if operator in ("<", ">"):
            return Requirement(key, "Gt" if operator == ">" else "Lt", frozenset({self._integer()}))
        expected = "in, notin, =, ==, !=, gt, lt"
        raise self._refused(f"found '{operator}', expected: {expected}")

    def _values(self) -> frozenset[str]:
        self._expect("(")
        values: set[str] = set()
        while True:
            values.add(self._value())
            word = self._next()
            if word == ")":
                return frozenset(values)
            if word != ",":
                raise self._refused(f"found '{word}', expected: ',' or ')'")

    def _key(self) -> str:
        word = self._next()
        if word == "" or word in _SYMBOLS:
            raise self._refused(f"found '{word}', expected: !, identifier, or 'end of string'")
        complaint = invalid_label_key(word)
        if complaint:
            raise self._refused(f'key: Invalid value: "{word}": {complaint}')
        return word

    def _value(self) -> str:
        if self._peek() in ("", ",", ")"):
            return ""
        word = self._next()
        if word in _SYMBOLS:
            raise self._refused(f"found '{word}', expected: identifier")
        if not _NAME.fullmatch(word):
            raise self._refused(f'values[0][{self._text}]: Invalid value: "{word}": {_VALUE_RULE}')
        return word

    def _integer(self) -> str:
        word = self._next()
        if not re.fullmatch(r"[+-]?\d{1,19}", word):
            raise self._refused(
                f"values[0]: Invalid value: \"{word}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
        return word

    def _peek(self) -> str:
        return self._words[self._position] if self._position < len(self._words) else ""

    def _next(self) -> str:
        word = self._peek()
        self._position += 1
        return word

    def _expect(self, word: str) -> None:
        found = self._next()
        if found != word:
            raise self._refused(f"found '{found}', expected: '{word}'")

    def _refused(self, message: str) -> StatusError:
        return bad_request(f"unable to parse requirement: {message}")


_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character, at most 63 of them"
)


def invalid_label_key(key: str) -> str:
    """What is wrong with a label's key (`app` or `example.com/app`); empty when nothing is."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not _PREFIX.fullmatch(prefix) or len(prefix) > 253):
        return "prefix part must be a lower case DNS subdomain of at most 253 characters"
    if not _NAME.fullmatch(name):
        return (
            "name part must consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character, at most 63 of them"
        )
    return ""


def invalid_label_value(value: str) -> str:
    """What is wrong with a label's value; empty when nothing is."""
    return "" if value == "" or _NAME.fullmatch(value) else _VALUE_RULE


def parse_field_selector(text: str | None) -> FieldSelector:
    """`metadata.name=a,status.phase!=Running`; backslash escapes `,`, `=` and itself. Raises StatusError 400."""
    if not text or not text.strip():
        return FieldSelector()
    return FieldSelector(tuple(_field_requirement(term) for term in _split_terms(text) if term.strip()))


def _split_terms(text: str) -> list[str]:
    return re.findall(r"(?:\\.|[^,\\])+", text)


def _field_requirement(term: str) -> FieldRequirement:
    found = re.fullmatch(r"((?:\\.|[^=!\\])+?)\s*(==|!=|=)((?:\\.|[^=\\])*)", term, re.S)
    if found is None:
        raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
    key, operator, value = found.groups()
    return FieldRequirement(tuple(key.strip().split(".")), operator != "!=", re.sub(r"\\(.)", r"\1", value))


def from_label_selector(selector: Json | None) -> LabelSelector:
    """A metav1.LabelSelector: None matches nothing, an empty one everything. Raises StatusError 400."""
    if selector is None:
        return LabelSelector(nothing=True)
    found = [Requirement(key, "In", frozenset({value})) for key, value in (selector.get("matchLabels") or {}).items()]
    found.extend(_from_expression(expression) for expression in selector.get("matchExpressions") or ())
    return LabelSelector(tuple(found))


def _from_expression(expression: Json) -> Requirement:
    operator = expression.get("operator")
    values = frozenset(expression.get("values") or ())
    if operator in ("In", "NotIn") and not values:
        raise bad_request(f"for 'in', 'notin' operators, values set can't be empty (key {expression.get('key')!r})")
    if operator in ("Exists", "DoesNotExist") and values:
        raise bad_request(f"values set must be empty for exists and does not exist (key {expression.get('key')!r})")
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        raise bad_request(f'"{operator}" is not a valid label selector operator')
    return Requirement(str(expression.get("key")), str(operator), values)
