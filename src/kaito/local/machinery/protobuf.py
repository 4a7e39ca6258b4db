"""Kubernetes' protobuf bodies, as typed clients send them: from bytes to the JSON object that they stand for.

A body is `k8s\\0` and an envelope (runtime.Unknown) that names the kind and holds the message. The field tables are
data: for each message, its field numbers with the JSON name and type, from the definitions that Kubernetes publishes. A
`*` marks what Go keeps behind a pointer; there a zero is said on purpose, elsewhere it means `not set`. A field without
a name is inlined in JSON.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from kaito.local.machinery import builtin_schemas, wire
from kaito.local.machinery.errors import bad_request
from kaito.local.machinery.model_names import schema_name
from kaito.local.machinery.wire import WireError

Json = dict[str, Any]

MAGIC: Final = b"k8s\x00"
_DATA_FILE: Final = Path(__file__).parent / "data" / "protobuf_fields.json"
_MAX_DEPTH: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Registered in every API group.
_META_KINDS: Final = frozenset({"DeleteOptions"})


class Field(NamedTuple):
    """`shape` is `[]` for a list, `{}` for a map, empty otherwise."""

    name: str
    shape: str
    type: str
    pointer: bool
    required: bool


@cache
def _tables() -> dict[str, dict[str, str]]:
    decoded: dict[str, dict[str, str]] = msgspec.json.decode(_DATA_FILE.read_bytes())
    return decoded


@cache
def _fields(message: str) -> dict[int, Field]:
    required = set(builtin_schemas.definitions().get(schema_name(message), {}).get("required") or ())
    return {int(number): _read_field(text, required) for number, text in _tables().get(message, {}).items()}


def _read_field(text: str, required: set[str]) -> Field:
    name, kind, *pointer = text.split(" ")
    shape = kind[:2] if kind.startswith(("[]", "{}")) else ""
    return Field(name, shape, kind.removeprefix(shape), bool(pointer), name in required)


def decode(body: bytes) -> Json:
    """The object that a body holds, with its apiVersion and kind. Raises StatusError 400."""
    if not body.startswith(MAGIC):
        raise bad_request("the body is not Kubernetes protobuf: it has to begin with the four bytes 6b 38 73 00")
    try:
        envelope = {number: value for number, _, value in wire.fields(body[len(MAGIC) :])}
        meta = {number: _bytes(value).decode() for number, _, value in wire.fields(_bytes(envelope.get(1, b"")))}
        api_version, kind = meta.get(1, ""), meta.get(2, "")
        if envelope.get(3):
            raise WireError("a compressed or encrypted message is not supported")
        if envelope.get(4) == b"application/json":
            return _from_json(_bytes(envelope.get(2, b"")))
        message = _message_name(api_version, kind)
        obj = _decode_message(message, _bytes(envelope.get(2, b"")), 0)
    except (WireError, UnicodeDecodeError, struct.error, OverflowError, msgspec.DecodeError) as error:
        raise bad_request(f"the protobuf body cannot be decoded: {error}") from error
    return {"apiVersion": api_version, "kind": kind, **obj}


def _from_json(raw: bytes) -> Json:
    found: Json = msgspec.json.decode(raw, type=dict[str, Any])
    return found


def _message_name(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    name = "meta.v1." + kind if kind in _META_KINDS else f"{group.partition('.')[0] or 'core'}.{version}.{kind}"
    if name not in _tables():
        raise WireError(f"kind {kind!r} of {api_version!r} is not known as protobuf; send it as application/json")
    return name


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise WireError("a number where a message or a text belongs")
    return value


def _decode_message(message: str, raw: bytes, depth: int) -> Json:
    if depth > _MAX_DEPTH:
        raise WireError("messages nested too deep")
    table = _fields(message)
    obj: Json = {}
    for number, _, value in wire.fields(raw):
        field = table.get(number)
        if field is None:
            continue
        if not field.name:
            obj.update(_decode_message(field.type, _bytes(value), depth + 1))
        elif field.shape == "{}":
            key, item = _decode_pair(field.type, _bytes(value), depth)
            obj.setdefault(field.name, {})[key] = item
        elif field.shape == "[]":
            obj.setdefault(field.name, []).append(_decode_value(field.type, value, depth))
        else:
            decoded = _decode_value(field.type, value, depth)
            if field.pointer or field.required or not _is_unset(decoded):
                obj[field.name] = decoded
    return obj


def _is_unset(value: Any) -> bool:
    # An empty message stays: Go writes `spec: {}` too.
    return value is None or value == "" or (isinstance(value, int | float) and not value)


def _decode_pair(kind: str, raw: bytes, depth: int) -> tuple[str, Any]:
    parts: dict[int, int | bytes] = {number: value for number, _, value in wire.fields(raw)}
    key = _bytes(parts.get(1, b"")).decode()
    empty: int | bytes = 0 if kind in ("int32", "int64", "bool") else b""
    return key, _decode_value(kind, parts.get(2, empty), depth)


def _decode_value(kind: str, value: int | bytes, depth: int) -> Any:
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        return scalar(value)
    return _decode_message(kind, _bytes(value), depth + 1)


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise WireError("a text where a number belongs")
    return wire.signed(value)


def _double(value: int | bytes) -> float:
    found: float = struct.unpack("<d", _bytes(value))[0]
    return found


def _text_of(value: int | bytes) -> str:
    """The only field of a message that wraps a text."""
    return next((_bytes(inner).decode() for number, _, inner in wire.fields(_bytes(value)) if number == 1), "")


def _strings(value: int | bytes) -> list[str]:
    return [_bytes(inner).decode() for number, _, inner in wire.fields(_bytes(value)) if number == 1]


def _int_or_string(value: int | bytes) -> int | str:
    parts = {number: inner for number, _, inner in wire.fields(_bytes(value))}
    if parts.get(1):
        return _bytes(parts.get(3, b"")).decode()
    return _integer(parts.get(2, 0))


def _time(value: int | bytes, timespec: str = "seconds") -> str | None:
    parts = {number: _integer(inner) for number, _, inner in wire.fields(_bytes(value))}
    if not parts:
        return None
    moment = _EPOCH + timedelta(seconds=parts.get(1, 0), microseconds=parts.get(2, 0) // 1000)
    return moment.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def _embedded_json(value: int | bytes) -> Any:
    raw = next((_bytes(inner) for number, _, inner in wire.fields(_bytes(value)) if number == 1), b"")
    return msgspec.json.decode(raw) if raw else None


_SCALARS: Final[dict[str, Callable[[int | bytes], Any]]] = {
    "string": lambda value: _bytes(value).decode(),
    "bytes": lambda value: base64.b64encode(_bytes(value)).decode(),
    "int32": _integer,
    "int64": _integer,
    "uint32": _integer,
    "uint64": _integer,
    "bool": lambda value: bool(_integer(value)),
    "double": _double,
    "quantity": _text_of,
    "intstr": _int_or_string,
    "time": _time,
    "microtime": lambda value: _time(value, "microseconds"),
    "json": _embedded_json,
    "strings": _strings,
}
