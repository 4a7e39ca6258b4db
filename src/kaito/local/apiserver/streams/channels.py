"""The streams of a command as kubectl sees them: stdin, stdout, stderr, an error stream with a last Status, resizes.

Two carriers of the same thing: SPDY streams (POST, every kubectl) and websocket channels (GET, kubectl 1.30 and later).
"""

from __future__ import annotations

import asyncio
import json
from typing import Protocol

from aiohttp import WSMsgType, web

from kaito.local.apiserver.answer import encode
from kaito.local.apiserver.streams.errors import StreamClosed, StreamProtocolError
from kaito.local.apiserver.streams.spdy import SpdyConnection, SpdyStream
from kaito.local.store.records import Object

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE_SIGNAL = 255
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io")
WEBSOCKET_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
GOODBYE_SECONDS = 5.0
STDIN_QUEUE = 32


class Channels(Protocol):
    """Reads end with b"" or None; writes raise StreamClosed once the client is gone."""

    async def read_stdin(self) -> bytes: ...
    async def next_resize(self) -> tuple[int, int] | None: ...
    async def write(self, channel: int, data: bytes) -> None: ...
    async def finish(self, status: Object) -> None: ...
    async def gone(self) -> None:
        """Returns when the client is gone."""
        ...


class SpdyChannels:
    def __init__(self, connection: SpdyConnection, streams: dict[str, SpdyStream]) -> None:
        self._connection = connection
        self._streams = streams
        self._outputs = {STDOUT: streams.get("stdout"), STDERR: streams.get("stderr")}

    async def read_stdin(self) -> bytes:
        stream = self._streams.get("stdin")
        return await stream.read() if stream else b""

    async def next_resize(self) -> tuple[int, int] | None:
        stream = self._streams.get("resize")
        data = await stream.read() if stream else b""
        return _size(data) if data else None

    async def write(self, channel: int, data: bytes) -> None:
        stream = self._outputs.get(channel)
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: Object) -> None:
        """The streams end, then the Status, then the client hangs up."""
        for output in self._outputs.values():
            if output is not None:
                await output.close()
        await self._streams["error"].write(encode(status))
        await self._streams["error"].close()
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._connection.closed.wait()
        except TimeoutError:
            return

    async def gone(self) -> None:
        await self._connection.closed.wait()


class WebSocketChannels:
    def __init__(self, socket: web.WebSocketResponse, *, stdin: bool) -> None:
        self._socket = socket
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue(STDIN_QUEUE)
        self._resizes: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue(STDIN_QUEUE)
        self._gone = asyncio.Event()
        self._wants_stdin = stdin

    async def run(self) -> None:
        """Reads the client's messages until it is gone."""
        try:
            while True:
                message = await self._socket.receive()
                if message.type is WSMsgType.BINARY and message.data:
                    await self._receive(message.data[0], bytes(message.data[1:]))
                elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                    return
        finally:
            self._gone.set()
            for queue in (self._stdin, self._resizes):
                while queue.full():
                    queue.get_nowait()
            self._stdin.put_nowait(b"")
            self._resizes.put_nowait(None)

    async def read_stdin(self) -> bytes:
        return await self._stdin.get()

    async def next_resize(self) -> tuple[int, int] | None:
        return await self._resizes.get()

    async def write(self, channel: int, data: bytes) -> None:
        try:
            await self._socket.send_bytes(bytes([channel]) + data)
        except ConnectionError as error:
            raise StreamClosed("the client closed the connection") from error

    async def finish(self, status: Object) -> None:
        await self.write(ERROR, encode(status))
        await self._socket.close()

    async def gone(self) -> None:
        await self._gone.wait()

    async def _receive(self, channel: int, data: bytes) -> None:
        if channel == STDIN and self._wants_stdin and data:
            await self._stdin.put(data)
        elif channel == CLOSE_SIGNAL and data[:1] == bytes([STDIN]):
            await self._stdin.put(b"")
        elif channel == RESIZE:
            size = _size(data)
            if size is not None:
                await self._resizes.put(size)


def _size(data: bytes) -> tuple[int, int] | None:
    """Columns and rows from {"Width": 80, "Height": 24}. Raises StreamProtocolError."""
    try:
        size = json.loads(data)
        return int(size["Width"]), int(size["Height"])
    except (ValueError, KeyError, TypeError) as error:
        raise StreamProtocolError(f"a resize that is not one: {data[:100]!r}") from error
