"""OpenAPI v2: the document, and its protobuf form (gnostic's `openapi.v2.Document`).

Version 2 cannot say all that version 3 can, so custom schemas are narrowed the way Kubernetes narrows them: what it
cannot express becomes `anything`, and clients then leave the check to the server. Field numbers are those of gnostic's
published definition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from kaito.local.machinery import wire
from kaito.local.machinery.nodes import REF_PREFIX
from kaito.local.machinery.resource_info import ResourceInfo

Json = dict[str, Any]

_V2_PREFIX: Final = "#/definitions/"
_METHODS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_TEXTS: Final = {"format": 2, "title": 3, "description": 4, "pattern": 13}
_NUMBERS: Final = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_FLAGS: Final = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16, "readOnly": 27}
_COUNTS: Final = {
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "maxProperties": 17,
    "minProperties": 18,
}
_UNSAYABLE: Final = frozenset({"oneOf", "anyOf", "not", "allOf", "nullable", "x-kubernetes-validations"})


def write_parameters(action: str) -> Iterator[tuple[str, str]]:
    """The query parameters of a write and what they mean; kubectl looks for some of them by name."""
    yield "dryRun", "When it is All, every stage runs but nothing is stored."
    yield "fieldManager", "The name of the program or person that makes the change."
    yield "fieldValidation", "What happens to unknown and duplicate fields: Ignore, Warn or Strict."
    if action == "patch":
        yield "force", "Take fields over from their owners. Only for server-side apply."


def document(infos: Sequence[ResourceInfo], definitions: dict[str, Json], title: str, version: str) -> Json:
    """The document as JSON."""
    paths: Json = {}
    for info in infos:
        group = f"apis/{info.group}" if info.group else "api"
        place = f"/{group}/{info.version}/{'namespaces/{namespace}/' if info.namespaced else ''}{info.plural}"
        paths[place] = {"post": _operation(info, "post")}
        if "patch" in info.verbs:
            paths[f"{place}/{{name}}"] = {verb: _operation(info, verb) for verb in ("get", "put", "patch", "delete")}
    return {
        "swagger": "2.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "definitions": {name: narrow(body) for name, body in definitions.items()},
    }


def _operation(info: ResourceInfo, action: str) -> Json:
    operation: Json = {
        "operationId": f"{action}{info.group.partition('.')[0].capitalize() or 'Core'}{info.version}{info.kind}",
        "responses": {"200": {"description": "OK", "schema": {"$ref": _V2_PREFIX + info.definition}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": info.group, "version": info.version, "kind": info.kind},
    }
    if action in ("post", "put", "patch"):
        operation["parameters"] = [
            {"name": name, "in": "query", "description": why, "type": "boolean" if name == "force" else "string"}
            for name, why in write_parameters(action)
        ]
    return operation


def narrow(schema: Any) -> Json:
    """A schema with only what version 2 can say."""
    if not isinstance(schema, dict):
        return {}
    if isinstance(schema.get("$ref"), str):
        rest = {key: schema[key] for key in schema if key == "description" or key.startswith("x-kubernetes-")}
        return {"$ref": _V2_PREFIX + schema["$ref"].removeprefix(REF_PREFIX), **rest}
    narrowed = {key: value for key, value in schema.items() if key not in _UNSAYABLE}
    if schema.get("x-kubernetes-int-or-string") is True:
        return {"description": schema.get("description", ""), "type": "string", "format": "int-or-string"}
    if schema.get("format") == "quantity":
        return {"description": schema.get("description", ""), "type": "string"}
    if schema.get("nullable") is True or schema.get("x-kubernetes-preserve-unknown-fields") is True:
        for key in ("properties", "items", "additionalProperties", "required", "enum"):
            narrowed.pop(key, None)
        if schema.get("nullable") is True or schema.get("type") == "array":
            narrowed.pop("type", None)
        return narrowed
    if isinstance(schema.get("properties"), dict):
        narrowed["properties"] = {key: narrow(child) for key, child in schema["properties"].items()}
    if "items" in schema:
        narrowed["items"] = narrow(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        narrowed["additionalProperties"] = narrow(schema["additionalProperties"])
    return narrowed


def encode(document: Json) -> bytes:
    """The document in protobuf."""
    info = wire.text(1, document["info"]["title"]) + wire.text(2, document["info"]["version"])
    paths = b"".join(_named(2, path, _path_item(item)) for path, item in document["paths"].items())
    definitions = b"".join(_named(1, name, _schema(body)) for name, body in document["definitions"].items())
    return (
        wire.text(1, document["swagger"])
        + wire.delimited(2, info)
        + wire.delimited(8, paths)
        + wire.delimited(9, definitions)
    )


def _named(number: int, name: str, value: bytes) -> bytes:
    return wire.delimited(number, wire.text(1, name) + wire.delimited(2, value))


def _any(value: Any) -> bytes:
    """A free value: YAML text, of which JSON is a part."""
    return wire.text(2, json.dumps(value))


def _extensions(number: int, owner: Json) -> bytes:
    return b"".join(_named(number, key, _any(value)) for key, value in owner.items() if key.startswith("x-"))


def _path_item(item: Json) -> bytes:
    return b"".join(wire.delimited(_METHODS[verb], _encode_operation(operation)) for verb, operation in item.items())


def _encode_operation(operation: Json) -> bytes:
    parameters = b"".join(wire.delimited(8, _parameter(item)) for item in operation.get("parameters", ()))
    responses = b"".join(_response(code, body) for code, body in operation["responses"].items())
    return (
        wire.text(5, operation["operationId"]) + parameters + wire.delimited(9, responses) + _extensions(13, operation)
    )


def _parameter(parameter: Json) -> bytes:
    query = (
        wire.text(2, parameter["in"])
        + wire.text(3, parameter["description"])
        + wire.text(4, parameter["name"])
        + wire.text(6, parameter["type"])
    )
    non_body = wire.delimited(3, query)
    return wire.delimited(1, wire.delimited(2, non_body))


def _response(code: str, body: Json) -> bytes:
    response = wire.text(1, body["description"]) + wire.delimited(2, wire.delimited(1, _schema(body["schema"])))
    return _named(1, code, wire.delimited(1, response))


def _schema(schema: Json) -> bytes:
    parts: list[bytes] = [wire.text(1, schema.get("$ref", ""))]
    parts.extend(wire.text(number, str(schema[key])) for key, number in _TEXTS.items() if schema.get(key))
    parts.extend(wire.double(number, schema[key]) for key, number in _NUMBERS.items() if key in schema)
    parts.extend(wire.flag(number, bool(schema[key])) for key, number in _FLAGS.items() if key in schema)
    parts.extend(wire.integer(number, schema[key]) for key, number in _COUNTS.items() if key in schema)
    if "default" in schema:
        parts.append(wire.delimited(5, _any(schema["default"])))
    parts.append(wire.texts(19, schema.get("required") or ()))
    parts.extend(wire.delimited(20, _any(value)) for value in schema.get("enum") or ())
    parts.extend(_structure(schema))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


def _structure(schema: Json) -> Iterable[bytes]:
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        yield wire.delimited(21, wire.delimited(1, _schema(additional)))
    elif additional is not None:
        yield wire.delimited(21, wire.varint(2 << 3) + wire.varint(int(bool(additional))))
    if isinstance(schema.get("type"), str):
        yield wire.delimited(22, wire.texts(1, (schema["type"],)))
    if isinstance(schema.get("items"), dict):
        yield wire.delimited(23, wire.delimited(1, _schema(schema["items"])))
    if isinstance(schema.get("properties"), dict):
        inner = b"".join(_named(1, key, _schema(child)) for key, child in schema["properties"].items())
        yield wire.delimited(25, inner)
