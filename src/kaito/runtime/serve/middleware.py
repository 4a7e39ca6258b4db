"""Around every request: who may ask, how large it may be, and how a failure is written."""

from __future__ import annotations

import hmac
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from kaito.runtime.serve.errors import InvalidRequest, RequestError, TooLarge, Unauthorized

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN_PATHS = frozenset({"/", "/health", "/healthz", "/metrics", "/progress", "/version", "/ping", "/openapi.json"})
_KINDS: dict[int, type[RequestError]] = {413: TooLarge}


def error_response(error: RequestError, path: str) -> web.Response:
    body: dict[str, Any] = error.body()
    if path == "/chat":
        body["detail"] = error.message  # KAITO v0.3's /chat wrote its errors so
    return web.json_response(body, status=error.status, headers=error.headers())


def write_errors(on_rejected: Callable[[], None]) -> Any:
    """Every failure becomes OpenAI's error body; `on_rejected` is told of each 429."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            if error.status == 429:
                on_rejected()
            return error_response(error, request.path)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _from_http(request, error)
        except web.RequestPayloadError as error:  # a body that is not in the encoding it claims, or breaks off
            return error_response(InvalidRequest(f"the request body cannot be read: {error}"), request.path)
        except (ConnectionResetError, ConnectionAbortedError):
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a request: a defect must not leave an HTML page
            traceback.print_exception(error)
            return error_response(RequestError(f"internal error: {type(error).__name__}"), request.path)

    return middleware


BROWSERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Expose-Headers": "Retry-After",
    "Access-Control-Max-Age": "600",
}


@web.middleware
async def answer_browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A browser asks beforehand whether a page of another origin may call; it may, as with vLLM. Keys are in a header
    that pages must know, never in cookies, so that nothing is open to a page that is not open to anyone."""
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return web.Response(status=204, headers=BROWSERS)
    return await handler(request)


async def allow_browsers(request: web.Request, response: web.StreamResponse) -> None:
    if "Origin" in request.headers:
        for name in ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers"):
            response.headers.setdefault(name, BROWSERS[name])


def require_key(keys: frozenset[str]) -> Any:
    """Bearer keys where some are set; health and metrics stay open for probes and scrapers."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if keys and request.path not in OPEN_PATHS:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            # Every key is compared, so that the time taken tells nothing.
            is_known = any([hmac.compare_digest(given.encode(), key.encode()) for key in keys])  # noqa: C419 - see above
            if scheme.lower() != "bearer" or not is_known:
                raise Unauthorized("this server asks for an API key: send `Authorization: Bearer KEY`")
        return await handler(request)

    return middleware


def _from_http(request: web.Request, error: web.HTTPException) -> web.Response:
    texts = {
        404: f"there is no {request.path} here; the API is under /v1, and /chat",
        405: f"{request.path} does not take {request.method}",
        413: "the request body is larger than this server takes",
    }
    made = _KINDS.get(error.status, InvalidRequest)(texts.get(error.status, error.reason or "bad request"))
    made.status = error.status
    response = error_response(made, request.path)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
