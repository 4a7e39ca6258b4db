"""Error answers in the shape of the distribution specification."""

from __future__ import annotations

from aiohttp import web


def answer_error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message, "detail": None}]}, status=status)
