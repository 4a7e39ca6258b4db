"""Server-side tables, printed as kubectl prints them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def render_table(table: dict[str, Any], *, wide: bool = False, headers: bool = True, namespaces: bool = False) -> str:
    """The text of a meta.k8s.io/v1 Table; columns of a priority above 0 only when `wide`."""
    definitions = table.get("columnDefinitions", [])
    shown = [i for i, column in enumerate(definitions) if wide or not column.get("priority")]
    rows = [[_text(row["cells"][i]) for i in shown] for row in table.get("rows") or []]
    titles = [definitions[i]["name"].upper() for i in shown]
    if namespaces:
        titles = ["NAMESPACE", *titles]
        spaces = [row.get("object", {}).get("metadata", {}).get("namespace", "") for row in table.get("rows") or []]
        rows = [[space, *row] for space, row in zip(spaces, rows, strict=True)]
    return align([titles, *rows] if headers else rows)


def align(rows: Iterable[list[str]]) -> str:
    """Columns of equal width with three spaces between, as kubectl has them."""
    lines = list(rows)
    if not lines:
        return ""
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    return "\n".join("   ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in lines)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
