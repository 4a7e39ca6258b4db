"""The bytes under a stream protocol: a raw socket after 101, or the binary messages of a websocket.

Reading is paused while nobody takes what came, so a slow command slows its client and no buffer grows.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import WSMsgType, web

from kaito.local.apiserver.streams.errors import StreamClosed
from kaito.local.machinery import errors

CHUNK = 64 * 1024


class Pipe(Protocol):
    async def read(self) -> bytes:
        """The next bytes; b"" once the client is gone."""
        ...

    async def write(self, data: bytes) -> None:
        """Waits while the client is slow. Raises StreamClosed."""
        ...

    async def close(self) -> None: ...


class SocketPipe:
    """The connection of a request, taken over from HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as error:
            raise StreamClosed("the client closed the connection") from error

    async def close(self) -> None:
        self._writer.close()


class WebSocketPipe:
    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY and message.data:
                return bytes(message.data)
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return b""

    async def write(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(data)
        except ConnectionError as error:
            raise StreamClosed("the client closed the connection") from error

    async def close(self) -> None:
        await self._socket.close()


def take_over(request: web.BaseRequest, headers: dict[str, str]) -> SocketPipe:
    """Answers 101 and takes the socket away from the HTTP server, which sees nothing of it any more."""
    transport = request.transport
    if transport is None:
        raise errors.bad_request("the connection is closed already")
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items())]
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=CHUNK, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.resume_reading()
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    return SocketPipe(reader, writer)
