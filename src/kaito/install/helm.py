"""The tree of `template` as text of Helm templates: the same conditions and holes, in Helm's words."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from kaito.install.template import (
    All,
    AnyOf,
    Block,
    Builtin,
    Condition,
    Document,
    Each,
    Either,
    Equals,
    Free,
    Image,
    Is,
    Node,
    Not,
    Partial,
    Splice,
    Spread,
    Text,
    Value,
    When,
)

LINE = 80
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_NOT_STRINGS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


class Printer:
    """`defaults` tell of which type a value is, and so how it is written."""

    def __init__(self, defaults: dict[str, Any]) -> None:
        self._defaults = defaults

    def documents(self, documents: list[Document]) -> str:
        """One template file: its documents, each under its condition."""
        return "".join(self._document(document) for document in documents)

    def partial(self, name: str, body: dict[Any, Node]) -> str:
        lines = [f'{{{{- define "kaito.{name}" -}}}}', *self._mapping(body, ""), "{{- end }}", ""]
        return "\n".join(lines)

    def _document(self, document: Document) -> str:
        lines = ["---", *self._mapping(document.body, "")]
        return "\n".join([*_conditional(document.condition, lines), ""])

    def _mapping(self, node: dict[Any, Node], pad: str) -> list[str]:
        lines: list[str] = []
        for key, value in node.items():
            match key:
                case Spread():
                    body = f"{pad}{{{{- toYaml . | nindent {len(pad)} }}}}"
                    lines += [f"{pad}{{{{- with {_value(key.path)} }}}}", body, f"{pad}{{{{- end }}}}"]
                case Partial():
                    lines.append(f'{pad}{{{{- include "kaito.{key.name}" . | nindent {len(pad)} }}}}')
                case _:
                    lines += self._entry(str(key), value, pad)
        return lines

    def _entry(self, key: str, value: Node, pad: str) -> list[str]:
        name = f"{pad}{_literal(key)}:"
        match value:
            case When():
                return _conditional(value.condition, self._entry(key, value.body, pad), pad)
            case Block():
                body = f"{pad}  {{{{- toYaml . | nindent {len(pad) + 2} }}}}"
                return [f"{pad}{{{{- with {_value(value.path)} }}}}", name, body, f"{pad}{{{{- end }}}}"]
            case Either():
                return self._either(name, value, pad)
            case dict() if value:
                return [name, *self._mapping(value, pad + "  ")]
            case list() if _is_short(value):
                return [f"{name} [{', '.join(map(_literal, value))}]"]
            case list() if value:
                return [name, *self._sequence(value, pad + "  ")]
            case str() if "\n" in value:
                return [f"{name} |", *_block(value, pad + "  ")]
        return [f"{name} {self._scalar(value)}"]

    def _either(self, name: str, value: Either, pad: str) -> list[str]:
        given = _value(value.path)
        start, middle, end = f"{pad}{{{{- if {given} }}}}", f"{pad}{{{{- else }}}}", f"{pad}{{{{- end }}}}"
        otherwise = [f"{name} |", *_block(value.otherwise, pad + "  ")]
        return [start, f"{name} {{{{ {given} | quote }}}}", middle, *otherwise, end]

    def _sequence(self, node: list[Node], pad: str) -> list[str]:
        lines: list[str] = []
        for item in node:
            match item:
                case Splice():
                    body = f"{pad}{{{{- toYaml . | nindent {len(pad)} }}}}"
                    lines += [f"{pad}{{{{- with {_value(item.path)} }}}}", body, f"{pad}{{{{- end }}}}"]
                case Each():
                    word = f'{{{{ printf "{item.before}%s" . | quote }}}}' if item.before else "{{ . | quote }}"
                    start = f"{pad}{{{{- range {_value(item.path)} }}}}"
                    lines += [start, f"{pad}- {word}", f"{pad}{{{{- end }}}}"]
                case When():
                    items = item.body if isinstance(item.body, list) else [item.body]
                    lines += _conditional(item.condition, self._sequence(items, pad), pad)
                case dict():
                    inner = self._mapping(item, pad + "  ")
                    lines += [f"{pad}- {inner[0].lstrip()}", *inner[1:]]
                case _:
                    lines.append(f"{pad}- {self._scalar(item)}")
        return lines

    def _scalar(self, node: Node) -> str:
        match node:
            case Value() if isinstance(self._default(node.path), bool):
                return f"{{{{ {_value(node.path)} }}}}"
            case Value() if isinstance(self._default(node.path), int):
                return f"{{{{ {_value(node.path)} | int }}}}"
            case Value() | Builtin() | Image() | Text():
                return f"{{{{ {self._expression(node)} | quote }}}}"
        return _literal(node)

    def _expression(self, node: Value | Builtin | Image | Text) -> str:
        match node:
            case Value():
                return _value(node.path)
            case Builtin():
                return f".{node.path}"
            case Image():
                return f'include "kaito.image" (list . {_value(node.path)})'
            case Text():
                words = "".join(part if isinstance(part, str) else self._verb(part) for part in node.parts)
                holes = [self._hole(part) for part in node.parts if not isinstance(part, str)]
                return f"printf {json.dumps(words)} {' '.join(holes)}"

    def _verb(self, part: Value | Builtin | Image) -> str:
        return "%d" if self._is_number(part) else "%v"

    def _hole(self, part: Value | Builtin | Image) -> str:
        expression = self._expression(part)
        if self._is_number(part):
            return f"(int {expression})"
        return f"({expression})" if " " in expression else expression

    def _is_number(self, part: Value | Builtin | Image) -> bool:
        found = self._default(part.path) if isinstance(part, Value) else ""
        return isinstance(found, int) and not isinstance(found, bool)

    def _default(self, path: str) -> Any:
        found: Any = self._defaults
        for part in path.split("."):
            found = found[part]
        return found


def words_of(condition: Condition, *, inner: bool = False) -> str:
    """A condition in Helm's words; an inner one stands in parentheses."""
    match condition:
        case Is():
            return _value(condition.path)
        case Equals():
            text = f'eq {_value(condition.path)} "{condition.to}"'
        case Free():
            text = f'include "kaito.isFree" (list . "{condition.crd}")'
        case Not(Equals() as equals):
            text = f'ne {_value(equals.path)} "{equals.to}"'
        case Not():
            text = f"not {words_of(condition.condition, inner=True)}"
        case All() | AnyOf():
            word = "and" if isinstance(condition, All) else "or"
            text = f"{word} {' '.join(words_of(one, inner=True) for one in condition.conditions)}"
    return f"({text})" if inner else text


def _conditional(condition: Condition | None, lines: list[str], pad: str = "") -> list[str]:
    if condition is None:
        return lines
    return [f"{pad}{{{{- if {words_of(condition)} }}}}", *lines, f"{pad}{{{{- end }}}}"]


def _value(path: str) -> str:
    return f".Values.{path}"


def _block(text: str, pad: str) -> list[str]:
    return [f"{pad}{_escaped(line)}" if line else "" for line in text.rstrip("\n").split("\n")]


def _is_short(items: list[Node]) -> bool:
    """A list of a few plain words stands on one line."""
    return all(isinstance(item, str) for item in items) and 0 < len(", ".join(items)) < LINE


def _literal(node: Node) -> str:
    """A scalar as YAML on one line; words are quoted where YAML would read them as something else."""
    if isinstance(node, str):
        if _PLAIN.fullmatch(node) and node.lower() not in _NOT_STRINGS:
            return node
        return _escaped(json.dumps(node))
    return yaml.safe_dump(node, default_flow_style=True).partition("\n")[0]


def _escaped(text: str) -> str:
    """Helm would take two braces for a hole of its own."""
    return text.replace("{{", '{{ "{{" }}')
