"""What an answer is asked to look like: OpenAI's `response_format`, and vLLM's `structured_outputs` and `guided_*`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kaito.runtime.serve.engines.base import Form
from kaito.runtime.serve.errors import InvalidRequest

KINDS = "text, json_object or json_schema"
# vLLM's names, old (a field each) and new (keys of `structured_outputs`) -> the kind of form.
STRUCTURED: Mapping[str, str] = {"json": "json", "regex": "regex", "choice": "choice", "grammar": "lark"}
MAX_CHOICES = 1000


def form_of(response_format: Mapping[str, Any] | None, structured: Mapping[str, Any]) -> Form | None:
    """The form, or None for free text. `structured` has vLLM's keys. Raises InvalidRequest."""
    given = {
        key: value for key, value in structured.items() if value is not None and key in {*STRUCTURED, "json_object"}
    }
    wanted = _response_format(response_format or {})
    if len(given) + (wanted is not None) > 1:
        raise InvalidRequest(
            "only one of response_format and structured_outputs can shape an answer", "response_format"
        )
    if not given:
        return wanted
    key, value = next(iter(given.items()))
    return _structured(key, value)


def _response_format(given: Mapping[str, Any]) -> Form | None:
    field = "response_format"
    match given.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return Form("json", '{"type": "object"}', field)
        case "json_schema":
            wrapped = given.get("json_schema")
            schema = wrapped.get("schema", wrapped.get("json_schema")) if isinstance(wrapped, dict) else None
            if not isinstance(schema, dict):
                raise InvalidRequest(f"{field}.json_schema.schema is missing or no object", field)
            return Form("json", json.dumps(schema), field)
        case other:
            raise InvalidRequest(f"{field}.type is {other!r}; it takes {KINDS}", field)


def _structured(key: str, value: Any) -> Form | None:
    field = f"structured_outputs.{key}"
    match key, value:
        case "json", dict():
            return Form("json", json.dumps(value), field)
        case "json", str():
            return Form("json", _checked_json(value, field), field)
        case "json_object", bool():
            return Form("json", '{"type": "object"}', field) if value else None
        case (("regex" | "grammar"), str()):
            return Form("regex" if key == "regex" else "lark", value, field)
        case "choice", list() if 0 < len(value) <= MAX_CHOICES and all(isinstance(one, str) and one for one in value):
            return Form("choice", json.dumps(value), field)
    raise InvalidRequest(f"{field} has the wrong type, or is empty", field)


def _checked_json(text: str, field: str) -> str:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{field} is no JSON: {error}", field) from error
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{field} is no JSON schema: it must be an object", field)
    return text
