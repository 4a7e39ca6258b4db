"""pods/proxy: an HTTP request passed on to a port of the pod."""

from __future__ import annotations

import aiohttp
from aiohttp import web
from yarl import URL

from kaito.local.apiserver.call import Call
from kaito.local.machinery import errors
from kaito.local.store.records import Object

HOP_HEADERS = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "authorization"}
)
CONNECT_SECONDS = 10.0


class PodProxy:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def forward(self, request: web.BaseRequest, call: Call, pod: Object, rest: str) -> web.StreamResponse:
        """The pod's answer, streamed. 503 when nothing answers there; the client's token never goes to the pod."""
        name, _, port_text = call.name.partition(":")
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise errors.unavailable(f'no address is known for pod "{name}": it is not running yet')
        port = _port(pod, name, port_text)
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        url = URL(f"http://{address}:{port}{rest or '/'}{query}", encoded=True)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_HEADERS}
        data = request.content.iter_any() if request.body_exists else None
        try:
            async with self._client().request(
                request.method, url, headers=headers, data=data, allow_redirects=False
            ) as upstream:
                return await _copy(request, upstream)
        except aiohttp.ClientError as error:
            message = f"error trying to reach service: {address}:{port}: {error or type(error).__name__}"
            raise errors.unavailable(message) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self._session


async def _copy(request: web.BaseRequest, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
    for key, value in upstream.headers.items():
        if key.lower() not in HOP_HEADERS and key.lower() != "content-length":
            response.headers.add(key, value)
    if upstream.content_length is not None:
        response.content_length = upstream.content_length
    await response.prepare(request)
    async for chunk in upstream.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def _port(pod: Object, name: str, text: str) -> int:
    """By number or by the name of a container's port; the first declared port when none is given."""
    ports = [port for container in pod["spec"].get("containers") or [] for port in container.get("ports") or []]
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    for port in ports:
        if not text or port.get("name") == text:
            return int(port["containerPort"])
    if text:
        raise errors.bad_request(f'pod "{name}" has no port named "{text}"')
    return 80
