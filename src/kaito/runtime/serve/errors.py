"""What a request can be answered with instead of a result.

    RequestError              an HTTP status and OpenAI's error body
    ├── InvalidRequest        400: the request is wrong, or asks for what is not built
    ├── Unauthorized          401
    ├── ModelNotFound         404
    ├── TooLarge              413
    ├── Overloaded            429, with Retry-After
    ├── NotReady              503: the model is loading, or the server drains
    └── TimedOut              504

Errors that end the whole step are the runtime's InputError and StepError.
"""

from __future__ import annotations


class RequestError(Exception):
    """`message` says what is wrong and what to change; `param` names the field, `code` is OpenAI's machine word."""

    status = 500
    kind = "server_error"
    default_code: str | None = None

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code

    def body(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        return {}


class InvalidRequest(RequestError):
    status = 400
    kind = "invalid_request_error"


class Unauthorized(RequestError):
    status = 401
    kind = "invalid_request_error"
    default_code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class ModelNotFound(RequestError):
    status = 404
    kind = "invalid_request_error"
    default_code = "model_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"the model {name!r} is not served here; served: {', '.join(known)}", "model")


class TooLarge(RequestError):
    status = 413
    kind = "invalid_request_error"


class Overloaded(RequestError):
    """`retry_after`: seconds until a place is likely to be free."""

    status = 429
    kind = "rate_limit_error"
    default_code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


class NotReady(RequestError):
    status = 503
    kind = "server_error"
    default_code = "not_ready"

    def headers(self) -> dict[str, str]:
        return {"Retry-After": "2"}


class TimedOut(RequestError):
    status = 504
    kind = "timeout_error"
    default_code = "timeout"
