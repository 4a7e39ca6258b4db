"""`values.yaml`, with a comment for each value that needs one, and `values.schema.json`."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import yaml

from kaito.install.values import Values

WIDTH = 100
_REQUIRED = {"subscriptionId": 1, "resourceGroup": 1, "clusterName": 1}
_IDENTITY = {"tenantId": 1, "clientId": 1}


def values_schema() -> dict[str, Any]:
    """A JSON schema that Helm and `kaito install` check values by."""
    schema: dict[str, Any] = msgspec.json.schema(Values)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for definition in schema["$defs"].values():
        definition.pop("description", None)  # the docstrings are for readers of the code
        for field in definition.get("properties", {}).values():
            field.pop("default", None)  # values.yaml has them
    schema["$defs"]["Provisioner"]["allOf"] = [
        _given({"enabled": True, "provider": "azure"}, {"azure": _filled(_REQUIRED)}),
        _given(
            {"enabled": True, "provider": "azure", "azure": {"credential": "workload-identity"}},
            {"azure": _filled(_IDENTITY)},
        ),
    ]
    return schema


def _given(values: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    return {"if": _constants(values), "then": {"properties": then}}


def _constants(values: dict[str, Any]) -> dict[str, Any]:
    properties = {key: _constants(v) if isinstance(v, dict) else {"const": v} for key, v in values.items()}
    return {"properties": properties, "required": list(values)}


def _filled(lengths: dict[str, int]) -> dict[str, Any]:
    properties = {name: {"minLength": length} for name, length in lengths.items()}
    return {"properties": properties, "required": list(lengths)}


def values_yaml() -> str:
    """The defaults, in the order of the Structs."""
    head = "# The values of this chart. `kaito install --set` and `--values` take the same ones.\n"
    return head + "".join(_lines(Values, msgspec.to_builtins(Values()), ""))


def _lines(struct: type, values: dict[str, Any], pad: str) -> list[str]:
    hints = get_type_hints(struct, include_extras=True)
    lines: list[str] = []
    for field in msgspec.structs.fields(struct):
        hint, value = hints[field.name], values[field.encode_name]
        inner = _plain(hint)
        lines += ["\n"] if not pad else []
        lines += [f"{pad}# {line}\n" for line in _comment(hint, pad)]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            lines += [f"{pad}{field.encode_name}:\n", *_lines(inner, value, pad + "  ")]
        else:
            text = yaml.safe_dump({field.encode_name: value}, sort_keys=False, width=WIDTH)
            lines += [f"{pad}{line}\n" for line in text.splitlines()]
    return lines


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _comment(hint: Any, pad: str) -> list[str]:
    texts = [meta.description for meta in getattr(hint, "__metadata__", ()) if meta.description]
    choices = [str(choice) or '""' for choice in get_args(_plain(hint))] if "Literal" in repr(_plain(hint)) else []
    if choices:
        texts.append(f"One of {', '.join(choices)}.")
    return textwrap.wrap(" ".join(texts), WIDTH - len(pad))
