"""Field names as CEL rules write them: `self.__namespace__`, `self.retry__dash__limit`.

CEL reserves some words and allows only letters, digits and underscores in names. Kubernetes escapes the others in
rules; here the value that a rule sees carries such fields under both names.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kaito.local.machinery.nodes import Node

_RESERVED: Final = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)
_PARTS: Final = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))


def escape(name: str) -> str:
    """The name by which a rule reads a field."""
    if name in _RESERVED:
        return f"__{name}__"
    for part, escaped in _PARTS:
        name = name.replace(part, escaped)
    return name


_TEMPORAL: Final = frozenset({"date-time", "date", "duration"})
_STEP: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _temporal(form: str, text: str) -> Any:
    """A time or a duration as rules see it; the text itself where it cannot be read, which validation tells."""
    try:
        if form == "duration":
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(text))
            return timedelta(seconds=-seconds if text.startswith("-") else seconds)
        moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
    except (ValueError, OverflowError):
        return text
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class EscapedNames:
    """Which parts of a schema hold names that CEL cannot write.

    Most schemas have none, and their values pass as they are.
    """

    def __init__(self, root: Node) -> None:
        self._reaching: dict[int, bool] = {}
        self._aliases: dict[int, dict[str, str]] = {}
        self.found = self._collect(root)

    def _collect(self, node: Node) -> bool:
        known = self._reaching.get(id(node))
        if known is not None:
            return known
        self._reaching[id(node)] = False  # a type that contains itself ends here
        aliases = {name: escape(name) for name in node.properties if escape(name) != name}
        self._aliases[id(node)] = aliases
        own = node.format in _TEMPORAL or bool(aliases)
        children = [self._collect(child) for child in node.children()]
        self._reaching[id(node)] = own or any(children)
        return self._reaching[id(node)]

    def visible(self, node: Node, value: Any) -> Any:
        """The value as a rule sees it; the value itself where nothing has to be escaped."""
        if not self._reaching.get(id(node), False):
            return value
        if isinstance(value, str) and node.format in _TEMPORAL:
            return _temporal(node.format, value)
        if isinstance(value, list) and node.items is not None:
            items = node.items
            return [self.visible(items, item) for item in value]
        if not isinstance(value, dict):
            return value
        seen = {key: self._child(node, key, item) for key, item in value.items()}
        for key, alias in self._aliases[id(node)].items():
            if key in seen:
                seen[alias] = seen[key]
        return seen

    def _child(self, node: Node, key: str, item: Any) -> Any:
        child = node.child(key)
        return item if child is None else self.visible(child, item)
