"""Objects as text: json, yaml, name and jsonpath, as kubectl prints them."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from kaito.cli.discovery import Kind
from kaito.cli.errors import UsageError
from kaito.local.machinery import jsonpath

JSONPATH = "jsonpath="
_EXPRESSION = re.compile(r"\{([^{}]*)\}")


def check_output(output: str) -> None:
    """Raises UsageError for a format that is none."""
    if output.startswith(JSONPATH):
        _check_template(output.removeprefix(JSONPATH))
    elif output not in ("", "wide", "json", "yaml", "name"):
        raise UsageError(f'unknown output "{output}"', "one of wide, json, yaml, name, jsonpath=TEMPLATE")


def _check_template(template: str) -> None:
    for expression in _EXPRESSION.findall(template) or [""]:
        if not expression or expression.split()[0] in ("range", "end"):
            raise UsageError(
                f'the template "{template}" cannot be read', "write paths in braces, such as {.status.state}"
            )
        if _literal(expression) is None:
            try:
                jsonpath.parse(expression)
            except jsonpath.JSONPathError as error:
                raise UsageError(f'the template "{template}" cannot be read: {error}') from error


def dump(found: dict[str, Any], output: str, kinds: list[Kind]) -> str:
    """One object, or a List of them, as `check_output` allows."""
    for obj in found.get("items", [found]) if found.get("kind") == "List" else [found]:
        obj.get("metadata", {}).pop("managedFields", None)
    if output == "json":
        return json.dumps(found, indent=4)
    if output == "yaml":
        return yaml.safe_dump(found, sort_keys=False).rstrip()
    if output.startswith(JSONPATH):
        return _fill(output.removeprefix(JSONPATH), found)
    items = found["items"] if found.get("kind") == "List" else [found]
    titles = {(kind.resource.api_version, kind.resource.kind): kind for kind in kinds}
    return "\n".join(titles[item["apiVersion"], item["kind"]].title(item["metadata"]["name"]) for item in items)


def _fill(template: str, found: dict[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        literal = _literal(match[1])
        if literal is not None:
            return literal
        values = jsonpath.find(match[1], found)
        return " ".join(one if isinstance(one, str) else json.dumps(one) for one in values)

    return _EXPRESSION.sub(value, template)


def _literal(expression: str) -> str | None:
    """The text of a quoted expression such as {"\\n"}; None for a path."""
    if len(expression) >= 2 and expression[0] == expression[-1] == '"':
        text = expression[1:-1]
        return text.replace("\\n", "\n").replace("\\t", "\t")
    return None
