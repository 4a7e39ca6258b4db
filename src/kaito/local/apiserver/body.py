"""From the bytes of a request to a JSON object: JSON, YAML or Kubernetes' protobuf, with limits.

Whatever arrives, the answer to a bad body is a 4xx Status: too large, too deep, not text, not an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml
from aiohttp import web

from kaito.local.machinery.errors import bad_request, too_large, unsupported_media_type
from kaito.local.machinery.protobuf import decode as decode_protobuf
from kaito.local.store.records import Object

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
BODY_TYPES = (JSON, YAML, PROTOBUF)
DEPTH_LIMIT = 200
"""Levels of nesting. Deeper objects are refused before any recursive code meets them."""

STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
YAML_STARTS = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
YAML_ENDS = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)
BRACKETS = re.compile(rb"[\[\]{}]")

_decode = msgspec.json.Decoder().decode


class _YamlLoader(yaml.CSafeLoader):
    """Timestamps stay text, as Kubernetes reads them."""


_YamlLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """At most `limit` bytes; 413 for more, found out while reading."""
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


def media_type(request: web.BaseRequest) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def decode_object(body: bytes, content_type: str) -> Object:
    """The object in the body of a create or an update."""
    if content_type in ("", JSON, "text/json"):
        value = decode_json(body)
    elif content_type in (YAML, "text/yaml", "application/x-yaml"):
        value = decode_yaml(body)
    elif content_type == PROTOBUF:
        value = decode_protobuf(body)
    else:
        raise unsupported_media_type(BODY_TYPES)
    if not isinstance(value, dict):
        raise bad_request("the body of the request must be an object")
    return value


def decode_json(body: bytes) -> Any:
    check_depth(body)
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from error


def decode_yaml(body: bytes) -> Any:
    """YAML or JSON, as apply sends it. Aliases are refused: a few of them make gigabytes."""
    if body.lstrip()[:1] in (b"{", b"["):
        return decode_json(body)
    try:
        text = body.decode()
        _check_yaml(text)
        value = yaml.load(text, Loader=_YamlLoader)  # noqa: S506  a SafeLoader, less its timestamps
        return json.loads(json.dumps(value, allow_nan=False))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise bad_request(f"the body of the request is not YAML: {line}") from error


def _check_yaml(text: str) -> None:
    """Looks at the tokens before anything recursive does."""
    depth = 0
    for token in yaml.scan(text, Loader=_YamlLoader):
        if isinstance(token, yaml.AliasToken):
            raise bad_request("the body of the request is YAML with aliases, which are not accepted")
        if isinstance(token, YAML_STARTS):
            depth += 1
        elif isinstance(token, YAML_ENDS):
            depth -= 1
        if depth > DEPTH_LIMIT:
            raise bad_request(f"the body of the request nests more than {DEPTH_LIMIT} levels")


def check_depth(body: bytes) -> None:
    """Counts brackets outside of strings, without building anything."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_LIMIT:
        return
    depth = 0
    for bracket in BRACKETS.findall(STRINGS.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH_LIMIT:
            raise bad_request(f"the body of the request nests more than {DEPTH_LIMIT} levels")


def duplicate_fields(body: bytes) -> list[str]:
    """`duplicate field "spec.x"` for every key that an object of the JSON body has twice."""
    try:
        document = json.loads(body, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return []
    return [f'duplicate field "{path}"' for path in _duplicates(document, "")]


class Pairs(list[tuple[str, Any]]):
    """A JSON object with every key that it was written with."""


def _duplicates(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Pairs):
        seen: dict[str, int] = {}
        for name, item in value:
            seen[name] = seen.get(name, 0) + 1
            inner = f"{path}.{name}" if path else name
            if seen[name] == 2:
                yield inner
            yield from _duplicates(item, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _duplicates(item, f"{path}[{index}]")
