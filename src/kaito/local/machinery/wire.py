"""The wire format of Protocol Buffers: reading it field by field, and writing it.

Only what Kubernetes uses: varints, 64 and 32 bit numbers, and length-delimited fields. Groups are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5


class WireError(ValueError):
    """Bytes that are no protobuf message."""


def fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of every field, in order. Raises WireError."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        value: int | bytes
        if wire_type == VARINT:
            value, position = _varint(message, position)
        elif wire_type in (LENGTH, FIXED64, FIXED32):
            size = 8 if wire_type == FIXED64 else 4
            if wire_type == LENGTH:
                size, position = _varint(message, position)
            value = message[position : position + size]
            if len(value) != size:
                raise WireError("the message ends inside a field")
            position += size
        else:
            raise WireError(f"wire type {wire_type} is not used here")
        if number == 0:
            raise WireError("field number 0")
        yield number, wire_type, value


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise WireError("the message ends inside a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise WireError("a number of more than 10 bytes")


def signed(value: int) -> int:
    """A varint as the signed 64 bit number that it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(number: int, value: bytes) -> bytes:
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    """A string field; nothing where it is empty, as proto3 has it."""
    return delimited(number, value.encode()) if value else b""


def flag(number: int, value: bool) -> bytes:
    return varint(number << 3 | VARINT) + b"\x01" if value else b""


def integer(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | FIXED64) + struct.pack("<d", value) if value else b""


def texts(number: int, values: Iterable[str]) -> bytes:
    return b"".join(delimited(number, value.encode()) for value in values)
