"""docs/reference/chart.md: the values of the Helm chart, from values.yaml and values.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "kaito"
HEAD = """# Chart values

<!-- Made by `make reference` from charts/kaito; a test compares them. Edit the chart. -->

`helm upgrade --install --set NAME=VALUE`, `--values FILE`; `kaito install` takes the same. A value that the schema does not know is
refused.

| value | default | meaning |
|---|---|---|
"""


def page() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = _rows(values, schema["$defs"]["Values"], schema["$defs"], "")
    return HEAD + "".join(rows)


def _rows(values: dict[str, Any], schema: dict[str, Any], defs: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema["properties"].items():
        inner = _resolve(field, defs)
        where, default = f"{path}{name}", values.get(name)
        if inner.get("properties"):
            if field.get("description"):
                yield f"| **`{where}`** | | {_cell(field['description'])} |\n"
            yield from _rows(default or {}, inner, defs, f"{where}.")
        else:
            yield f"| `{where}` | `{_default(default)}` | {_meaning(field, inner)} |\n"


def _resolve(field: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref", "")
    return defs[reference.rpartition("/")[2]] if reference else field


def _default(value: Any) -> str:
    text = json.dumps(value)
    return text.replace("|", "\\|")


def _meaning(field: dict[str, Any], inner: dict[str, Any]) -> str:
    choices = inner.get("enum", ())
    words = f" One of {', '.join(f'`{choice or chr(34) * 2}`' for choice in choices)}." if choices else ""
    return _cell(field.get("description", "") + words)


def _cell(text: str) -> str:
    return text.strip().replace("|", "\\|")
