"""The schemas of the built-in kinds, read from the package's data file when the first of them is asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from kaito.local.machinery.nodes import REF_PREFIX, Compiler

Json = dict[str, Any]

DATA_FILE: Final = Path(__file__).parent / "data" / "builtin_schemas.json"


@cache
def definitions() -> dict[str, Json]:
    """All definitions by their OpenAPI name, such as `io.k8s.api.core.v1.PodSpec`. Not to be changed."""
    decoded: dict[str, Json] = msgspec.json.decode(DATA_FILE.read_bytes(), type=dict[str, Json])
    return decoded


@cache
def compiler() -> Compiler:
    """The compiler that all built-in schemas share, so that PodSpec is compiled once for all kinds that hold one."""
    return Compiler(definitions())


def closure(raw: Json) -> dict[str, Json]:
    """The definitions that `raw` refers to, directly or through others."""
    found: dict[str, Json] = {}
    pending = [raw]
    while pending:
        for name in _references(pending.pop()):
            if name not in found:
                found[name] = definitions()[name]
                pending.append(found[name])
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    if not isinstance(value, dict):
        return []
    reference = value.get("$ref")
    own = [reference.removeprefix(REF_PREFIX)] if isinstance(reference, str) else []
    return own + [name for key, item in value.items() if key != "$ref" for name in _references(item)]
