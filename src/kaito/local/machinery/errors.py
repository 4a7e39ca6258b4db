"""The errors of the API: each is a metav1.Status, worded the way Kubernetes words it.

StatusError
    the one exception that leaves the machinery; the server writes `.status` as the body and `.code` as the HTTP status.

Clients branch on `reason` and people read `message`, so both are part of the contract.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


def compact(value: Any, limit: int = 400) -> str:
    """A value as the messages show it: JSON, cut where it would fill the screen."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]}..."


FIELD_REQUIRED = "FieldValueRequired"
FIELD_INVALID = "FieldValueInvalid"
FIELD_DUPLICATE = "FieldValueDuplicate"
FIELD_NOT_SUPPORTED = "FieldValueNotSupported"
FIELD_FORBIDDEN = "FieldValueForbidden"
FIELD_TOO_LONG = "FieldValueTooLong"
FIELD_TOO_MANY = "FieldValueTooMany"
FIELD_TYPE_INVALID = "FieldValueTypeInvalid"
FIELD_MANAGER_CONFLICT = "FieldManagerConflict"
BLOCKING = frozenset({FIELD_REQUIRED, FIELD_TOO_LONG, FIELD_TOO_MANY, FIELD_TYPE_INVALID, FIELD_NOT_SUPPORTED})
"""Reasons after which CEL rules cannot run: the object is not what the rules were written for."""


@dataclass(frozen=True)
class FieldCause:
    """One thing that is wrong with one field. `message` is without the field's path: `Required value`."""

    field: str
    message: str
    reason: str = FIELD_INVALID

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def to_status_cause(self) -> dict[str, str]:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class StatusError(Exception):
    """An answer that is not a success. `status` is the whole metav1.Status, `code` its HTTP status."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        if details is not None:
            self.status["details"] = details


def _details(group: str, kind: str, name: str) -> Json:
    return {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}


def qualified(group: str, resource: str) -> str:
    """`deployments.apps`, or `pods` for the core group."""
    return f"{resource}.{group}" if group else resource


def not_found(group: str, resource: str, name: str) -> StatusError:
    message = f'{qualified(group, resource)} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(group, resource, name))


def path_not_found() -> StatusError:
    """A URL that names no resource type at all."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


class PageNotFound(StatusError):
    """A URL of a group or version that nobody serves: the one answer that is plain text and no Status."""

    def __init__(self) -> None:
        super().__init__(404, "NotFound", "404 page not found")


def already_exists(group: str, resource: str, name: str) -> StatusError:
    message = f'{qualified(group, resource)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(group, resource, name))


STALE_OBJECT = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(group: str, resource: str, name: str, message: str = STALE_OBJECT) -> StatusError:
    text = f'Operation cannot be fulfilled on {qualified(group, resource)} "{name}": {message}'
    return StatusError(409, "Conflict", text, _details(group, resource, name))


def invalid(group: str, kind: str, name: str, causes: Sequence[FieldCause]) -> StatusError:
    """422 with every cause named. Equal causes are told once."""
    unique = list(dict.fromkeys(causes))
    texts = [str(cause) for cause in unique]
    summary = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _details(group, kind, name)
    details["causes"] = [cause.to_status_cause() for cause in unique]
    return StatusError(422, "Invalid", f'{qualified(group, kind)} "{name}" is invalid: {summary}', details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(group: str, resource: str, name: str, message: str) -> StatusError:
    subject = f'{qualified(group, resource)} "{name}"' if name else qualified(group, resource)
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {message}", _details(group, resource, name))


def gone(message: str) -> StatusError:
    """A resource version or continue token that is too old: the client lists again."""
    return StatusError(410, "Expired", message)


def too_old(version: int, oldest: int) -> StatusError:
    return gone(f"too old resource version: {version} ({oldest})")


def not_acceptable(accepted: Iterable[str]) -> StatusError:
    message = f"406: Not Acceptable\n\nAvailable representations: {', '.join(accepted)}"
    return StatusError(406, "NotAcceptable", message, {})


def unsupported_patch_type() -> StatusError:
    return StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return StatusError(415, "UnsupportedMediaType", message)


def method_not_allowed() -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})


def too_large(limit: int) -> StatusError:
    """`limit` is in bytes."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def too_many_requests(message: str, retry_after: int) -> StatusError:
    """`retry_after` is in seconds."""
    return StatusError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})


def unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)


def timed_out(message: str, retry_after: int = 0) -> StatusError:
    """The server could not finish in time; `retry_after` is in seconds."""
    return StatusError(
        504, "Timeout", f"Timeout: {message}", {"retryAfterSeconds": retry_after} if retry_after else None
    )


def internal(message: str) -> StatusError:
    text = f"Internal error occurred: {message}"
    return StatusError(500, "InternalError", text, {"causes": [{"message": message}]})


def apply_conflict(conflicts: Sequence[tuple[str, str]]) -> StatusError:
    """Server-side apply met other owners. `conflicts` are (owner as people read it, field path) in order."""
    count = len(conflicts)
    if count == 1:
        summary = f"conflict with {conflicts[0][0]}: {conflicts[0][1]}"
    else:
        summary = "\n".join(_conflicts_by_owner(conflicts))
    message = f"Apply failed with {count} conflict{'' if count == 1 else 's'}: {summary}"
    causes = [
        {"reason": FIELD_MANAGER_CONFLICT, "message": f"conflict with {owner}", "field": path}
        for owner, path in conflicts
    ]
    return StatusError(409, "Conflict", message, {"causes": causes})


def _conflicts_by_owner(conflicts: Sequence[tuple[str, str]]) -> list[str]:
    lines: list[str] = []
    for owner in sorted({owner for owner, _ in conflicts}):
        lines.append(f"conflicts with {owner}:")
        lines.extend(f"- {path}" for other, path in conflicts if other == owner)
    return lines


def type_invalid(field: str, kind: str, value: str) -> FieldCause:
    """A value of the wrong JSON type. `value` is the offending JSON text, `kind` the type the schema wants."""
    message = f"Invalid value: {value}: {field} in body must be of type {kind}: {value}"
    return FieldCause(field, message, FIELD_TYPE_INVALID)
