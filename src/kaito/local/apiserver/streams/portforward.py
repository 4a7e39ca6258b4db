"""pods/portforward: connections of kubectl's side, each a pair of SPDY streams, to ports of the pod.

The SPDY frames come over the socket itself, or inside the binary messages of a websocket (kubectl 1.31 and later).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from kaito.local.apiserver.call import Call
from kaito.local.apiserver.streams.errors import StreamError
from kaito.local.apiserver.streams.logs import backend_status
from kaito.local.apiserver.streams.pipes import Pipe, WebSocketPipe, take_over
from kaito.local.apiserver.streams.spdy import SpdyConnection, SpdyStream
from kaito.local.backend import BackendError, PodBackend
from kaito.local.machinery import errors

PROTOCOL = "portforward.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
CONNECT_SECONDS = 10.0
CHUNK = 32 * 1024


async def serve_ports(backend: PodBackend, request: web.BaseRequest, call: Call) -> web.StreamResponse:
    try:
        address = await backend.address(call.namespace, call.name)
    except BackendError as error:
        raise backend_status(error) from error
    upgrade = request.headers.get("Upgrade", "").lower()
    if upgrade == "spdy/3.1":
        pipe = take_over(
            request, {"Upgrade": "SPDY/3.1", "Connection": "Upgrade", "X-Stream-Protocol-Version": PROTOCOL}
        )
        await _PortForward(pipe, address).run()
        return web.Response(status=499)
    if upgrade != "websocket" or TUNNEL not in request.headers.get("Sec-WebSocket-Protocol", ""):
        raise errors.bad_request(f"unable to upgrade: port-forward needs SPDY/3.1 or a websocket of {TUNNEL}")
    socket = web.WebSocketResponse(protocols=[TUNNEL], heartbeat=30.0, max_msg_size=4 * 1024 * 1024)
    await socket.prepare(request)
    await _PortForward(WebSocketPipe(socket), address).run()
    return socket


@dataclass
class _Pair:
    streams: dict[str, SpdyStream] = field(default_factory=dict)


class _PortForward:
    def __init__(self, pipe: Pipe, address: str) -> None:
        self._connection = SpdyConnection(pipe)
        self._address = address
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        reading = asyncio.create_task(self._connection.run())
        try:
            while (stream := await self._connection.accept()) is not None:
                self._add(stream)
        finally:
            tasks = [reading, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._connection.close()

    def _add(self, stream: SpdyStream) -> None:
        """A connection begins once both of its streams are there."""
        request_id = stream.headers.get("requestid", str(stream.number // 4))
        pair = self._pairs.setdefault(request_id, _Pair())
        pair.streams[stream.headers.get("streamtype", "")] = stream
        if {"data", "error"} <= pair.streams.keys():
            del self._pairs[request_id]
            task = asyncio.create_task(self._forward(pair.streams["data"], pair.streams["error"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, data: SpdyStream, error: SpdyStream) -> None:
        try:
            port = data.headers.get("port", "")
            try:
                reader, writer = await self._connect(port)
            except (OSError, TimeoutError, ValueError) as problem:
                await error.write(f"failed to connect to {self._address}:{port} of the pod: {problem}".encode())
                return
            await _join(data, reader, writer)
        except StreamError:
            return  # the client is gone
        finally:
            await _close(data, error)
            self._connection.forget(data)
            self._connection.forget(error)

    async def _connect(self, port: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        number = int(port)
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(self._address, number)


async def _join(data: SpdyStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways, until the pod's side has said all; the client's end is passed on as a half-close."""

    async def to_pod() -> None:
        while chunk := await data.read():
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    sending = asyncio.create_task(to_pod())
    try:
        while chunk := await reader.read(CHUNK):
            await data.write(chunk)
    except ConnectionError:
        return  # the pod's side broke off; the stream ends here as the connection did
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def _close(*streams: SpdyStream) -> None:
    for stream in streams:
        try:
            await stream.close()
        except StreamError:
            return
