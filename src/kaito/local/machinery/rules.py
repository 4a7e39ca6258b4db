"""CEL rules of a schema (`x-kubernetes-validations`), evaluated against an object and, on updates, against its
predecessor.

A rule sees `self`, the value at its place, and `oldSelf`, the value that stood there before. Where elements cannot be
matched between the two (a list without keys), a rule that names `oldSelf` is not run, as in Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kaito.local.machinery import errors
from kaito.local.machinery.cel_engine import load_engine
from kaito.local.machinery.cel_functions import all_functions
from kaito.local.machinery.cel_names import EscapedNames
from kaito.local.machinery.errors import FieldCause, compact
from kaito.local.machinery.nodes import Json, Node

# What the engine raises when an expression meets a value it cannot work with (a missing key, a wrong type, a bad
# argument).
EVALUATION_ERRORS: Final = (KeyError, IndexError, TypeError, ValueError, RuntimeError, ArithmeticError)
_REASONS: Final = {
    "": (errors.FIELD_INVALID, "Invalid value: {shown}{message}"),
    "FieldValueInvalid": (errors.FIELD_INVALID, "Invalid value: {shown}{message}"),
    "FieldValueForbidden": (errors.FIELD_FORBIDDEN, "Forbidden: {message}"),
    "FieldValueRequired": (errors.FIELD_REQUIRED, "Required value: {message}"),
    "FieldValueDuplicate": (errors.FIELD_DUPLICATE, "Duplicate value: {value}"),
}
_ABSENT: Final = object()
_ENGINE_WORDS: Final = re.compile(
    r"^Function '\w+' error: |Python function call failed: (\w+: )?| in CEL expression$| Check function arguments.*$"
)


@dataclass(frozen=True)
class Expression:
    """A compiled CEL expression with the functions that it calls."""

    program: Any
    functions: dict[str, Callable[..., Any]]
    uses_old: bool

    @classmethod
    def compile(cls, text: str) -> Expression:
        """Raises ValueError with the engine's words when the text does not parse."""
        program = load_engine().compile(text)
        names = set(program.functions())
        functions = {name: call for name, call in all_functions().items() if name.rpartition(".")[2] in names}
        return cls(program, functions, "oldSelf" in program.variables())


class Scope:
    """What the rules of one place see: `self`, and `oldSelf` where there is one.

    The engine copies the values into its own form once for all rules of the place, which costs more than most rules.
    """

    def __init__(self, value: Any, old: Any, functions: dict[str, Callable[..., Any]]) -> None:
        self.old = old
        self._value = value
        self._functions = functions
        self._context: Any = None
        self._optional_context: Any = None

    def evaluate(self, expression: Expression, *, optional: bool) -> Any:
        """`optional`: the rule sees `oldSelf` as an optional value, which is there even when nothing was."""
        return expression.program.execute(self._optional() if optional else self._plain())

    def _plain(self) -> Any:
        if self._context is None:
            variables = {"self": self._value} if self.old is _ABSENT else {"self": self._value, "oldSelf": self.old}
            self._context = load_engine().Context(variables=variables, functions=self._functions)
        return self._context

    def _optional(self) -> Any:
        if self._optional_context is None:
            kind = load_engine().OptionalValue
            old = kind.none() if self.old is _ABSENT else kind.of(self.old)
            variables = {"self": self._value, "oldSelf": old}
            self._optional_context = load_engine().Context(variables=variables, functions=self._functions)
        return self._optional_context


@dataclass(frozen=True)
class Rule:
    """One entry of `x-kubernetes-validations`, compiled. `broken` says why it could not be."""

    text: str
    expression: Expression | None
    message: str
    message_expression: Expression | None
    reason: str
    field_path: str
    optional_old: bool
    broken: str = ""

    @classmethod
    def read(cls, raw: Json) -> Rule:
        text = str(raw.get("rule") or "")
        message_text = raw.get("messageExpression") or ""
        broken = ""
        expression = message_expression = None
        try:
            expression = Expression.compile(text)
            message_expression = Expression.compile(message_text) if message_text else None
        except ValueError as error:
            broken = str(error).splitlines()[0]
        return cls(
            text=text,
            expression=expression,
            message=raw.get("message") or f"failed rule: {' '.join(text.split())}",
            message_expression=message_expression,
            reason=raw.get("reason") or "",
            field_path=raw.get("fieldPath") or "",
            optional_old=raw.get("optionalOldSelf") is True,
            broken=broken,
        )

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """What its expressions call, by name."""
        expressions = (self.expression, self.message_expression)
        return {name: call for each in expressions if each for name, call in each.functions.items()}

    def check(self, raw: Any, scope: Scope, path: str, kind: str) -> FieldCause | None:
        """`raw` is the value as the object has it."""
        if self.expression is None:
            return FieldCause(path or "<nil>", f"Invalid value: {kind}: rule compile error: {self.broken}")
        if self.expression.uses_old and not self.optional_old and scope.old is _ABSENT:
            return None
        try:
            holds = scope.evaluate(self.expression, optional=self.optional_old)
        except EVALUATION_ERRORS as error:
            return self._cause(f"{_reason_of(error)} evaluating rule: {self.text}", path, f"{kind}: ", "")
        if holds is True:
            return None
        shown = "" if isinstance(raw, dict | list) else f"{compact(raw)}: "
        return self._cause(self._words(scope), path, shown, self.reason)

    def _words(self, scope: Scope) -> str:
        if self.message_expression is None:
            return self.message
        try:
            text = scope.evaluate(self.message_expression, optional=self.optional_old)
        except EVALUATION_ERRORS:
            return self.message
        return text if isinstance(text, str) and text.strip() and "\n" not in text else self.message

    def _cause(self, message: str, path: str, shown: str, reason: str) -> FieldCause:
        code, template = _REASONS.get(reason, _REASONS[""])
        text = template.format(shown=shown, value=shown.removesuffix(": "), message=message)
        return FieldCause(f"{path}{self._suffix(path)}" or "<nil>", text, code)

    def _suffix(self, path: str) -> str:
        if not self.field_path:
            return ""
        return self.field_path if path else self.field_path.lstrip(".")


def _reason_of(error: BaseException) -> str:
    if isinstance(error, KeyError) and error.args:
        return f"no such key: {error.args[0]}"
    return _ENGINE_WORDS.sub("", str(error))


class RuleSet:
    """All rules of a schema. Parts of an object whose schema holds none are not visited."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._names = EscapedNames(root)
        self._rules: dict[int, tuple[Rule, ...]] = {}
        self._functions: dict[int, dict[str, Callable[..., Any]]] = {}
        self._reaching: dict[int, bool] = {}
        self.found = self._collect(root)

    def _collect(self, node: Node) -> bool:
        known = self._reaching.get(id(node))
        if known is not None:
            return known
        self._reaching[id(node)] = False  # until its children are known; a type that contains itself ends here
        rules = self._rules[id(node)] = tuple(Rule.read(raw) for raw in node.rules)
        self._functions[id(node)] = {name: call for rule in rules for name, call in rule.functions.items()}
        children = [self._collect(child) for child in node.children()]
        self._reaching[id(node)] = bool(node.rules) or any(children)
        return self._reaching[id(node)]

    def evaluate(self, obj: Json, old: Json | None) -> list[FieldCause]:
        if not self.found:
            return []
        return list(self._visit(self._root, _as_seen(obj), _ABSENT if old is None else _as_seen(old), ""))

    def _visit(self, node: Node, value: Any, old: Any, path: str) -> Iterator[FieldCause]:
        if value is None or not self._reaching[id(node)]:
            return
        if node.rules:
            yield from self._check(node, value, old, path)
        if isinstance(value, dict):
            previous = old if isinstance(old, dict) else {}
            for key, item in value.items():
                child = node.child(key)
                if child is not None:
                    yield from self._visit(child, item, previous.get(key, _ABSENT), f"{path}.{key}" if path else key)
        elif isinstance(value, list) and node.items is not None:
            for index, item in enumerate(value):
                yield from self._visit(node.items, item, _previous(node, item, old), f"{path}[{index}]")

    def _check(self, node: Node, value: Any, old: Any, path: str) -> Iterator[FieldCause]:
        before = old if old is _ABSENT else self._names.visible(node, old)
        scope = Scope(self._names.visible(node, value), before, self._functions[id(node)])
        kind = f'"{node.type or "object"}"'
        for rule in self._rules[id(node)]:
            cause = rule.check(value, scope, path, kind)
            if cause is not None:
                yield cause


def _as_seen(obj: Json) -> Json:
    """Rules see no more of an object's metadata than its names, as in Kubernetes. The rest is large, and costs time."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return obj
    return {**obj, "metadata": {name: metadata[name] for name in ("name", "generateName") if name in metadata}}


def _previous(node: Node, item: Any, old: Any) -> Any:
    """The element of the old list with the same keys."""
    if node.list_type != "map" or not isinstance(item, dict) or not isinstance(old, list):
        return _ABSENT
    keys = [item.get(key) for key in node.map_keys]
    for candidate in old:
        if isinstance(candidate, dict) and [candidate.get(key) for key in node.map_keys] == keys:
            return candidate
    return _ABSENT
