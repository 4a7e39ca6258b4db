"""Objects with holes: plain dicts and lists in which a leaf may be a value of the installation, or a condition.

The same tree is filled in by `evaluate`, for `kaito install`, and printed as Helm templates by `chart`. So both install
the same objects, and a test that renders the chart with Helm compares them. A hole names a value by its path, such as
`operator.replicas`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Node = Any
"""A dict, a list, a plain scalar, or one of the holes below."""


@dataclass(frozen=True)
class Value:
    """A scalar of the values."""

    path: str


@dataclass(frozen=True)
class Builtin:
    """What the installer knows: `Release.Namespace`, `Release.Name`, `Release.Service`, `Chart.AppVersion`."""

    path: str


@dataclass(frozen=True)
class Image:
    """The reference of the image at this path, with the mirror of `global.imageRegistry` in front."""

    path: str


@dataclass(frozen=True)
class Text:
    """Parts in a row make one string."""

    parts: tuple[str | Value | Builtin | Image, ...]


@dataclass(frozen=True)
class Block:
    """A dict or list of the values, as it is. An empty one leaves its key out."""

    path: str


@dataclass(frozen=True)
class Either:
    """The text of the values where there is one, else this one."""

    path: str
    otherwise: str


@dataclass(frozen=True)
class Each:
    """For every item of a list of the values, one string: `before` and the item."""

    path: str
    before: str


@dataclass(frozen=True)
class Splice:
    """As a list's item: the items of a list of the values."""

    path: str


@dataclass(frozen=True)
class Spread:
    """As a key of a dict (its value is ignored): the entries of a dict of the values."""

    path: str


@dataclass(frozen=True)
class Partial:
    """As a key of a dict (its value is ignored): entries that many objects share; the chart defines them once."""

    name: str


@dataclass(frozen=True)
class Is:
    """The value is true, or is not empty."""

    path: str


@dataclass(frozen=True)
class Equals:
    path: str
    to: str


@dataclass(frozen=True)
class Free:
    """The cluster has no CustomResourceDefinition of this name that somebody else owns."""

    crd: str


@dataclass(frozen=True)
class Not:
    condition: Condition


@dataclass(frozen=True)
class All:
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    conditions: tuple[Condition, ...]


Condition = Is | Equals | Free | Not | All | AnyOf


@dataclass(frozen=True)
class When:
    """The body, where the condition holds: as a dict's value, or as a list's item (a list is several items)."""

    condition: Condition
    body: Node


@dataclass(frozen=True)
class Document:
    """One object. `file` is the chart's template that it is printed into."""

    file: str
    body: dict[Any, Node]
    condition: Condition | None = None


@dataclass(frozen=True)
class Context:
    """What the holes are filled with."""

    values: Mapping[str, Any]
    builtins: Mapping[str, str]
    partials: Mapping[str, dict[Any, Node]]
    is_free: Callable[[str], bool] = lambda crd: True

    def value(self, path: str) -> Any:
        found: Any = self.values
        for part in path.split("."):
            found = found[part]
        return found


def holds(condition: Condition | None, context: Context) -> bool:
    """Whether it does; no condition always holds."""
    match condition:
        case None:
            return True
        case Is():
            return bool(context.value(condition.path))
        case Equals():
            return bool(context.value(condition.path) == condition.to)
        case Free():
            return context.is_free(condition.crd)
        case Not():
            return not holds(condition.condition, context)
        case All():
            return all(holds(one, context) for one in condition.conditions)
        case AnyOf():
            return any(holds(one, context) for one in condition.conditions)


class _Nothing:
    """Stands for a key or an item that is left out."""


_NOTHING: Final = _Nothing()


def evaluate(node: Node, context: Context) -> Any:
    """The tree with its holes filled in, as plain data."""
    match node:
        case dict():
            return _evaluate_dict(node, context)
        case list():
            return _evaluate_list(node, context)
        case When():
            return evaluate(node.body, context) if holds(node.condition, context) else _NOTHING
        case Block():
            return context.value(node.path) or _NOTHING
        case Value() | Builtin() | Image():
            return _scalar(node, context)
        case Either():
            return context.value(node.path) or node.otherwise
        case Text():
            return "".join(part if isinstance(part, str) else _words(part, context) for part in node.parts)
    return node


def _evaluate_dict(node: dict[Any, Node], context: Context) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(key, Spread):
            filled.update(context.value(key.path))
        elif isinstance(key, Partial):
            filled.update(_evaluate_dict(context.partials[key.name], context))
        elif (found := evaluate(value, context)) is not _NOTHING:
            filled[key] = found
    return filled


def _evaluate_list(node: list[Node], context: Context) -> list[Any]:
    filled: list[Any] = []
    for item in node:
        if isinstance(item, Splice):
            filled += context.value(item.path)
        elif isinstance(item, Each):
            filled += [f"{item.before}{one}" for one in context.value(item.path)]
        elif (found := evaluate(item, context)) is not _NOTHING:
            several = isinstance(item, When) and isinstance(item.body, list)
            filled += found if several else [found]
    return filled


def _scalar(node: Value | Builtin | Image, context: Context) -> Any:
    match node:
        case Value():
            return context.value(node.path)
        case Builtin():
            return context.builtins[node.path]
        case Image():
            mirror, version = context.value("global.imageRegistry"), context.builtins["Chart.AppVersion"]
            return image_reference(mirror, context.value(node.path), version)


def _words(node: Value | Builtin | Image, context: Context) -> str:
    found = _scalar(node, context)
    return str(found).lower() if isinstance(found, bool) else str(found)


def image_reference(mirror: str, image: Mapping[str, str], version: str) -> str:
    """Like the chart's helper `kaito.image`: a digest wins over the tag, and the tag's default is the version."""
    registry = (mirror or image["registry"]).rstrip("/")
    name = f"{registry}/{image['repository']}" if registry else image["repository"]
    return f"{name}@{image['digest']}" if image["digest"] else f"{name}:{image['tag'] or version}"
