"""What the printers of the tables share: the shape of a printer and the cells that several kinds have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kaito.local.machinery.ages import age
from kaito.local.machinery.resource_info import Column

Json = dict[str, Any]
Cells = Callable[[Json, datetime], list[Any]]

NONE: Final = "<none>"
UNSET: Final = "<unset>"
NAME_COLUMN: Final = Column(
    "Name",
    "string",
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
    format="name",
)


@dataclass(frozen=True)
class Printer:
    """The columns of a kind, and the function that fills one row of them."""

    columns: tuple[Column, ...]
    cells: Cells


def columns(text: str) -> tuple[Column, ...]:
    """Columns from `Name, Ready, Data:integer, IP*`: a colon gives the type, an asterisk marks those of `-o wide`."""
    found: list[Column] = []
    for word in text.split(","):
        name, _, kind = word.strip().partition(":")
        wide = name.endswith("*") or kind.endswith("*")
        name, kind = name.rstrip("*"), kind.rstrip("*") or "string"
        found.append(NAME_COLUMN if name == "Name" and not found else Column(name, kind, priority=int(wide)))
    return tuple(found)


def name(obj: Json) -> str:
    return str((obj.get("metadata") or {}).get("name") or "")


def created(obj: Json, now: datetime) -> str:
    """The cell of the Age column."""
    return age((obj.get("metadata") or {}).get("creationTimestamp"), now)


def section(obj: Json, *keys: str) -> Json:
    """The object at a path of field names, empty where there is none."""
    for key in keys:
        found = obj.get(key)
        obj = found if isinstance(found, dict) else {}
    return obj


def items(obj: Json, *keys: str) -> list[Json]:
    """The objects of the list at a path of field names."""
    found = section(obj, *keys[:-1]).get(keys[-1])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def count(value: Any) -> int:
    """How many entries a map or list has; 0 where it is absent."""
    return len(value) if isinstance(value, dict | list) else 0


def join(values: Iterable[Any], separator: str = ",") -> str:
    return separator.join(str(value) for value in values)


def or_none(text: Any) -> str:
    return str(text) if text not in (None, "") else NONE


def format_labels(labels: Any) -> str:
    """`a=b,c=d`, or `<none>`."""
    if not isinstance(labels, dict) or not labels:
        return NONE
    return join(f"{key}={value}" for key, value in sorted(labels.items()))


def format_selector(selector: Json) -> str:
    """A metav1.LabelSelector as the text that kubectl accepts; `<none>` when it selects everything."""
    terms = [f"{key}={value}" for key, value in sorted(section(selector, "matchLabels").items())]
    for expression in items(selector, "matchExpressions"):
        key, operator = expression.get("key"), expression.get("operator")
        values = f"({join(sorted(texts(expression.get('values'))))})"
        terms.append(
            {
                "In": f"{key} in {values}",
                "NotIn": f"{key} notin {values}",
                "Exists": f"{key}",
                "DoesNotExist": f"!{key}",
            }.get(str(operator), f"{key} {operator}")
        )
    return join(terms) or NONE


def container_cells(pod_spec: Json) -> list[str]:
    """The names and the images of a pod template's containers."""
    containers = items(pod_spec, "containers")
    return [join(item.get("name", "") for item in containers), join(item.get("image", "") for item in containers)]
