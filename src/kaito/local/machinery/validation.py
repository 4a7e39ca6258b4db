"""Validation of an object against its schema, with causes worded as Kubernetes words them.

The checks themselves run in jsonschema-rs. Kubernetes extends JSON schema (`nullable`, int-or-string, list keys), so
the schema is rewritten once before it is compiled, and each error is put into the words that kubectl users know.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import jsonschema_rs

from kaito.local.machinery import errors
from kaito.local.machinery.errors import FieldCause, compact
from kaito.local.machinery.nodes import Node

Json = dict[str, Any]
Path = Sequence[str | int]

_KEPT_AS_THEY_ARE: Final = (
    "$ref",
    "type",
    "required",
    "enum",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "format",
)
_NUMERIC_FORMATS: Final = frozenset({"int32", "int64", "float", "double", "int-or-string", "quantity", "password"})


def compile_validator(raw: Json, definitions: Json) -> jsonschema_rs.Draft4Validator:
    """The validator of a schema. Raises ValueError where the schema itself does not compile (a bad pattern, say)."""
    schema = rewrite(raw)
    if definitions:
        schema["$defs"] = {name: rewrite(definition) for name, definition in definitions.items()}
    return jsonschema_rs.Draft4Validator(
        schema,
        formats=_FORMATS,
        validate_formats=True,
        ignore_unknown_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(),  # linear time, as Go's; look-around does not compile there either
    )


def rewrite(raw: Any) -> Json:
    """A Kubernetes schema as plain JSON schema (draft 4)."""
    if not isinstance(raw, dict):
        return {}
    schema: Json = {key: raw[key] for key in _KEPT_AS_THEY_ARE if key in raw}
    if schema.get("format") in _NUMERIC_FORMATS:
        del schema["format"]
    if raw.get("x-kubernetes-int-or-string") is True:
        schema["type"] = ["integer", "string"]
    if isinstance(raw.get("properties"), dict):
        schema["properties"] = {key: rewrite(child) for key, child in raw["properties"].items()}
    if isinstance(raw.get("items"), dict):
        schema["items"] = rewrite(raw["items"])
    if isinstance(raw.get("additionalProperties"), dict):
        schema["additionalProperties"] = rewrite(raw["additionalProperties"])
    for key in ("allOf", "anyOf", "oneOf"):
        if raw.get(key):
            schema[key] = [rewrite(child) for child in raw[key]]
    if "not" in raw:
        schema["not"] = rewrite(raw["not"])
    return _nullable(schema) if raw.get("nullable") is True else schema


def _nullable(schema: Json) -> Json:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kinds = schema.get("type")
    if kinds:
        schema["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema


def causes(validator: jsonschema_rs.Draft4Validator, obj: Any) -> list[FieldCause]:
    """Every way in which `obj` breaks the schema, in the order of the schema."""
    errors_found = list(validator.iter_errors(obj))
    # A text of the wrong length is not looked at further.
    sized = {tuple(one.instance_path) for one in errors_found if one.kind.name in ("minLength", "maxLength")}
    told = (one for one in errors_found if one.kind.name != "pattern" or tuple(one.instance_path) not in sized)
    return [cause for error in told for cause in _causes_of(error)]


def _causes_of(error: jsonschema_rs.ValidationError) -> list[FieldCause]:
    path = render_path(error.instance_path)
    kind = error.kind.name
    if kind == "required":
        return [FieldCause(_join(path, str(error.kind.as_dict()["property"])), "Required value", errors.FIELD_REQUIRED)]
    worded = _WORDING.get(kind)
    if worded is None:
        return [FieldCause(path, f"Invalid value: {compact(error.instance)}: {error.message}")]
    return [worded(path, error.instance, error.kind)]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def render_path(path: Path) -> str:
    """`spec.containers[0].name`; the root is `<nil>`'s place, an empty text."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            parts.append(f".{step}" if parts else step)
    return "".join(parts)


def json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _wrong_type(path: str, value: Any, kind: Any) -> FieldCause:
    wanted = ",".join(name for name in kind.types if name != "null")
    given = json.dumps(json_type(value))
    return FieldCause(
        path or "<nil>",
        f"Invalid value: {given}: {path} in body must be of type {wanted}: {given}",
        errors.FIELD_TYPE_INVALID,
    )


def _unsupported(path: str, value: Any, kind: Any) -> FieldCause:
    options = ", ".join(compact(option) for option in kind.options if option is not None)
    return FieldCause(
        path, f"Unsupported value: {compact(value)}: supported values: {options}", errors.FIELD_NOT_SUPPORTED
    )


def _too_long(path: str, value: Any, kind: Any) -> FieldCause:
    return FieldCause(path, f"Too long: may not be more than {kind.limit} bytes", errors.FIELD_TOO_LONG)


def _too_many(noun: str) -> Callable[[str, Any, Any], FieldCause]:
    def worded(path: str, value: Any, kind: Any) -> FieldCause:
        message = f"Too many: {len(value)}: must have at most {kind.limit} {'item' if kind.limit == 1 else noun}"
        return FieldCause(path, message, errors.FIELD_TOO_MANY)

    return worded


def _body(template: str, shown: Callable[[Any], str] | None = None) -> Callable[[str, Any, Any], FieldCause]:
    """A cause of the shape `Invalid value: X: PATH in body ...`; `{}` in the template is the schema's limit."""

    def worded(path: str, value: Any, kind: Any) -> FieldCause:
        text = template.format(_limit(kind))
        given = (shown or compact)(value)
        return FieldCause(path, f"Invalid value: {given}: {path} in body {text}")

    return worded


def _limit(kind: Any) -> Any:
    for name in ("limit", "pattern", "multiple_of", "format"):
        if hasattr(kind, name):
            limit = getattr(kind, name)
            return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
    return kind.value


def _count(value: Any) -> str:
    return str(len(value))


def _wrong_format(path: str, value: Any, kind: Any) -> FieldCause:
    given = compact(value)
    message = f"Invalid value: {given}: {path} in body must be of type {kind.format}: {given}"
    return FieldCause(path, message, errors.FIELD_TYPE_INVALID)


def _one_of(path: str, value: Any, kind: Any) -> FieldCause:
    several = isinstance(kind, jsonschema_rs.ValidationErrorKind.OneOfMultipleValid)
    found = "2 valid alternatives" if several else "none valid"
    text = f'Invalid value: "": "{path}" must validate one and only one schema (oneOf). Found {found}'
    return FieldCause("<nil>", text)


def _combination(template: str) -> Callable[[str, Any, Any], FieldCause]:
    def worded(path: str, value: Any, kind: Any) -> FieldCause:
        return FieldCause("<nil>", 'Invalid value: "": ' + template.format(path))

    return worded


_WORDING: Final[dict[str, Callable[[str, Any, Any], FieldCause]]] = {
    "type": _wrong_type,
    "enum": _unsupported,
    "maxLength": _too_long,
    "maxItems": _too_many("items"),
    "maxProperties": _too_many("items"),
    "minimum": _body("should be greater than or equal to {}"),
    "maximum": _body("should be less than or equal to {}"),
    "exclusiveMinimum": _body("should be greater than {}"),
    "exclusiveMaximum": _body("should be less than {}"),
    "multipleOf": _body("should be a multiple of {}"),
    "minLength": _body("should be at least {} chars long"),
    "minItems": _body("should have at least {} items", _count),
    "minProperties": _body("should have at least {} properties", _count),
    "pattern": _body("should match '{}'"),
    "format": _wrong_format,
    "oneOf": _one_of,
    "anyOf": _combination('"{}" must validate at least one schema (anyOf)'),
    "not": _combination('"{}" must not validate the schema (not)'),
}


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_cidr(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*|0")
_MAC = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}|([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")

_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "byte": _is_base64,
    "cidr": _is_cidr,
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "k8s-short-name": lambda text: _LABEL.fullmatch(text) is not None,
}


_INT32: Final = 2**31
_INT64: Final = 2**63


def structural_causes(node: Node, value: Any, path: str = "") -> list[FieldCause]:
    """What JSON schema has no word for: elements that occur twice in a set or in a list with keys, numbers that no
    integer of Kubernetes holds, embedded objects that do not say what they are.
    """
    found: list[FieldCause] = []
    _structural_causes(node, value, path, found)
    return found


def _structural_causes(node: Node, value: Any, path: str, found: list[FieldCause]) -> None:
    if isinstance(value, int):
        if node.type == "integer" or node.int_or_string:
            found.extend(_range_causes(node, value, path))
    elif isinstance(value, dict):
        if node.embedded:
            found.extend(_embedded_causes(value, path))
        for key, item in value.items():
            child = node.child(key)
            if child is not None and isinstance(item, dict | list | int):
                _structural_causes(child, item, _join(path, key), found)
    elif isinstance(value, list) and node.items is not None:
        if node.list_type != "atomic":
            found.extend(_duplicates(node, value, path))
        for index, item in enumerate(value):
            if isinstance(item, dict | list | int):
                _structural_causes(node.items, item, f"{path}[{index}]", found)


def _range_causes(node: Node, value: int, path: str) -> list[FieldCause]:
    if not -_INT64 <= value < _INT64:
        message = f'Invalid value: "number": {path} in body must be of type integer: "number"'
        return [FieldCause(path, message, errors.FIELD_TYPE_INVALID)]
    if node.format == "int32" and not -_INT32 <= value < _INT32:
        message = f'Invalid value: "": Checked value must be of type integer with format int32 in {path}'
        return [FieldCause("<nil>", message)]
    return []


def _embedded_causes(value: Json, path: str) -> list[FieldCause]:
    return [
        FieldCause(f"{path}.{key}", "Required value", errors.FIELD_REQUIRED)
        for key in ("apiVersion", "kind")
        if not value.get(key)
    ]


def _duplicates(node: Node, items: list[Any], path: str) -> list[FieldCause]:
    seen: set[str] = set()
    found: list[FieldCause] = []
    for index, item in enumerate(items):
        key: Any = item
        if node.list_type == "map":
            if not isinstance(item, dict):
                continue
            key = {name: item[name] for name in node.map_keys if name in item}
        text = json.dumps(key, sort_keys=True, separators=(",", ":"))
        if text in seen:
            found.append(FieldCause(f"{path}[{index}]", f"Duplicate value: {text}", errors.FIELD_DUPLICATE))
        seen.add(text)
    return found
