"""The API's JSON as narrow Structs.

Kubernetes writes null for a list or map that is empty where the Go type does not leave it out (`endpoints` of an
EndpointSlice, `rules` of a Role), and users write it too. Here null means what leaving the field out means.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")


def decode_object(model: type[T], raw: bytes) -> T:
    """Raises msgspec.DecodeError for what is not JSON, or not of the model's shape even without its nulls."""
    decoder = _decoder(cast(Hashable, model))
    try:
        decoded: T = decoder.decode(raw)
    except msgspec.ValidationError:
        decoded = decoder.decode(msgspec.json.encode(_without_nulls(msgspec.json.decode(raw))))
    return decoded


@lru_cache(maxsize=256)
def _decoder(model: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(model)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
