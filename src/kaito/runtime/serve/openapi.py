"""The server's own description, in OpenAPI 3.1, made from the types that requests are decoded into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kaito import __version__

REFS = "#/components/schemas/{name}"
JSON = "application/json"
TEXT_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
}
MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": TEXT_PART}]},
    },
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@dataclass(frozen=True)
class Operation:
    """One endpoint. `request` is what its JSON body is decoded into; `media` are the types of its answer."""

    method: str
    path: str
    summary: str
    request: type[Any] | None = None
    media: tuple[str, ...] = (JSON,)


def render_openapi(operations: Sequence[Operation], *, asks_for_key: bool) -> dict[str, Any]:
    """The document. Paths may be written as aiohttp has them (`{name:.+}`)."""
    types = [operation.request for operation in operations if operation.request is not None]
    _, schemas = msgspec.json.schema_components(types, ref_template=REFS)
    for schema in schemas.values():
        messages = schema.get("properties", {}).get("messages")
        if messages is not None:
            _say_messages(messages)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, path)
    security: dict[str, Any] = {"security": [{"key": []}]} if asks_for_key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kaito's model server", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        **security,
    }


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    content = {media: {"schema": {} if media == JSON else {"type": "string"}} for media in operation.media}
    made: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{path}").strip("_"),
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {
                "description": "What is wrong, and what to change.",
                "content": {JSON: {"schema": {"$ref": REFS.format(name="Error")}}},
            },
        },
    }
    if operation.request is not None:
        schema = {"$ref": REFS.format(name=operation.request.__name__)}
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    names = re.findall(r"\{(\w+)\}", path)
    if names:
        made["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    return made


def _say_messages(schema: dict[str, Any]) -> None:
    """Messages are plain maps to the decoder, which says itself what is wrong with one."""
    for one in [schema, *schema.get("anyOf", [])]:
        if one.get("type") == "array":
            one["items"] = MESSAGE
