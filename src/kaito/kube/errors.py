"""What can go wrong between a controller and the API.

KubeError
├── ConfigError            no usable kubeconfig, and not in a cluster
├── Unreachable            no answer: connection refused, time-out, TLS
├── ApiError               an answer that says no, as a Status
│   ├── NotFound (404)
│   ├── Conflict (409)     stale version, field owned by another manager
│   │   └── AlreadyExists
│   ├── Invalid (422)
│   ├── Forbidden (401, 403)
│   ├── Expired (410)      the version to watch from is gone: list again
│   └── Throttled (429, 503 with Retry-After)
ReconcileError             how a reconcile ends when it is not done; it drives the queue
├── Retryable              try again with back-off; logged as an error
├── Waiting                something else must happen first; a watch or a requeue wakes us; no error log
└── Terminal               nothing helps until the object changes; no retry
"""

from __future__ import annotations

from typing import Any


class KubeError(Exception):
    pass


class ConfigError(KubeError):
    pass


class Unreachable(KubeError):
    pass


class ApiError(KubeError):
    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class AlreadyExists(Conflict):
    pass


class Invalid(ApiError):
    pass


class Forbidden(ApiError):
    pass


class Expired(ApiError):
    pass


class Throttled(ApiError):
    """`retry_after` is in seconds."""

    retry_after: float = 1.0


_BY_CODE: dict[int, type[ApiError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    422: Invalid,
    429: Throttled,
}


def from_status(code: int, status: dict[str, Any], retry_after: str | None = None) -> ApiError:
    """The error that a Status stands for. `status` may be anything that a server or a proxy answered."""
    reason = str(status.get("reason") or "")
    message = str(status.get("message") or _proxied(status) or f"the API server answered {code}")
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_CODE.get(code, ApiError)
    if code == 503 and retry_after:
        kind = Throttled
    details = status.get("details")
    error = kind(code, reason, message, details if isinstance(details, dict) else None)
    if isinstance(error, Throttled) and retry_after and retry_after.isdigit():
        error.retry_after = float(retry_after)
    return error


def _proxied(status: dict[str, Any]) -> str:
    """What a pod behind the proxy said, in OpenAI's shape."""
    error = status.get("error")
    return str(error.get("message") or "") if isinstance(error, dict) else ""


class ReconcileError(Exception):
    pass


class Retryable(ReconcileError):
    pass


class Waiting(ReconcileError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Terminal(ReconcileError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
