"""Tables: what `kubectl get` shows, computed by the server (meta.k8s.io/v1 Table).

Built-in kinds have printers; custom ones print the columns that their CRD declares.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from kaito.local.machinery import jsonpath, print_apps, print_core, print_pods, print_policy
from kaito.local.machinery.ages import age
from kaito.local.machinery.errors import compact
from kaito.local.machinery.jsonpath import JSONPathError
from kaito.local.machinery.printing import NAME_COLUMN, Cells, Printer, columns, created, name
from kaito.local.machinery.resource_info import Column, ResourceInfo

Json = dict[str, Any]

_PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    ("", "Pod"): print_pods.POD,
    **print_core.PRINTERS,
    **print_apps.PRINTERS,
    **print_policy.PRINTERS,
}
_PLAIN: Final = Printer(columns("Name, Age"), lambda obj, now: [name(obj), created(obj, now)])


def table(info: ResourceInfo, objects: list[Json], *, include_object: str, now: datetime, metadata: Json) -> Json:
    """The table of `objects`. `include_object` is `Object`, `None`, or `Metadata`, which anything else means too.

    `metadata` is the list's own (resourceVersion, continue, remainingItemCount). `now` has a zone.
    """
    printer = printer_of(info)
    rows = [_row(info, printer.cells, obj, include_object, now) for obj in objects]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [column.to_definition() for column in printer.columns],
        "rows": rows,
    }


def printer_of(info: ResourceInfo) -> Printer:
    """The columns of a kind and how to fill them."""
    if info.crd:
        return Printer((NAME_COLUMN, *info.columns), _custom_cells(info.columns))
    return _PRINTERS.get((info.group, info.kind), _PLAIN)


def _row(info: ResourceInfo, cells: Cells, obj: Json, include_object: str, now: datetime) -> Json:
    row: Json = {"cells": cells(obj, now)}
    if (info.group, info.kind) == ("", "Pod"):
        conditions = print_pods.row_conditions(obj)
        if conditions:
            row["conditions"] = conditions
    if include_object == "Object":
        row["object"] = obj
    elif include_object != "None":
        row["object"] = partial_metadata(obj)
    return row


def partial_metadata(obj: Json) -> Json:
    """The object as a meta.k8s.io/v1 PartialObjectMetadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj.get("metadata") or {},
    }


def _custom_cells(given: tuple[Column, ...]) -> Cells:
    def cells(obj: Json, now: datetime) -> list[Any]:
        return [name(obj), *(_custom_cell(column, obj, now) for column in given)]

    return cells


def _custom_cell(column: Column, obj: Json, now: datetime) -> Any:
    try:
        found = jsonpath.find(column.json_path, obj)
    except JSONPathError:
        return None
    if not found or found[0] is None:
        return None
    if column.type == "string":
        return " ".join(value if isinstance(value, str) else compact(value) for value in found)
    if column.type == "date":
        return age(found[0], now)
    convert: Callable[[Any], Any] = _CONVERTERS.get(column.type, compact)
    return convert(found[0])


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {"integer": _integer, "number": _number, "boolean": _boolean}
