"""SPDY/3.1, the server's side, as far as kubectl speaks it: streams that the client opens, data, ping, reset.

Neither kubectl nor this server uses SPDY's own flow control (the Go library has none); the socket's holds for all
streams of a connection. A stream keeps at most `STREAM_QUEUE` frames that nobody has read; then the socket is not read.
"""

from __future__ import annotations

import asyncio
import struct

from kaito.local.apiserver.streams.errors import StreamClosed, StreamProtocolError
from kaito.local.apiserver.streams.pipes import Pipe
from kaito.local.apiserver.streams.spdy_headers import HeaderCodec

CONTROL = 0x8000_0000
VERSION_3 = 0x8003_0000
SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
FIN = 0x01
FRAME_LIMIT = 1024 * 1024
"""Bytes of one frame. The Go library sends at most 32 KiB."""
STREAMS_LIMIT = 512
STREAM_QUEUE = 32
WRITE_CHUNK = 32 * 1024


class SpdyStream:
    """One stream of a connection. The client's bytes end with b""."""

    def __init__(self, connection: SpdyConnection, number: int, headers: dict[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._connection = connection
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue(STREAM_QUEUE)
        self._ended = False
        self._finished = False

    async def read(self) -> bytes:
        if self._ended and self._incoming.empty():
            return b""
        data = await self._incoming.get()
        if not data:
            self._ended = True
        return data

    async def write(self, data: bytes) -> None:
        """Raises StreamClosed once the client is gone."""
        for start in range(0, len(data), WRITE_CHUNK):
            await self._connection.send_data(self.number, data[start : start + WRITE_CHUNK])

    async def close(self) -> None:
        """No more bytes from this side."""
        if not self._finished:
            self._finished = True
            await self._connection.send_data(self.number, b"", flags=FIN)

    async def reset(self) -> None:
        self._finished = True
        await self._connection.send_control(RST_STREAM, struct.pack(">II", self.number, 5))

    async def feed(self, data: bytes) -> None:
        """Called by the connection; waits while the stream's reader is behind."""
        if not self._ended:
            await self._incoming.put(data)

    def cut(self) -> None:
        """The connection is over: a waiting reader gets its end."""
        while self._incoming.full():
            self._incoming.get_nowait()
        self._incoming.put_nowait(b"")


class SpdyConnection:
    """`run` reads frames until the client is gone; `accept` gives the streams that it opens."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._headers = HeaderCodec()
        self._streams: dict[int, SpdyStream] = {}
        self._opened: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._buffer = bytearray()
        self._sending = asyncio.Lock()
        self.closed = asyncio.Event()

    async def accept(self) -> SpdyStream | None:
        """The next stream that the client opens; None when there will be none any more."""
        return await self._opened.get()

    async def run(self) -> None:
        """Raises StreamProtocolError."""
        try:
            while (frame := await self._frame()) is not None:
                await self._receive(*frame)
        finally:
            self.closed.set()
            self._opened.put_nowait(None)
            for stream in self._streams.values():
                stream.cut()

    def forget(self, stream: SpdyStream) -> None:
        """Drops a stream that both sides are done with."""
        self._streams.pop(stream.number, None)

    async def send_data(self, number: int, data: bytes, flags: int = 0) -> None:
        await self._send(struct.pack(">II", number, flags << 24 | len(data)) + data)

    async def send_control(self, type_: int, body: bytes, flags: int = 0) -> None:
        await self._send(struct.pack(">II", VERSION_3 | type_, flags << 24 | len(body)) + body)

    async def close(self) -> None:
        await self._pipe.close()

    async def _send(self, frame: bytes) -> None:
        if self.closed.is_set():
            raise StreamClosed("the client closed the connection")
        async with self._sending:
            await self._pipe.write(frame)

    async def _frame(self) -> tuple[int, int, bytes] | None:
        """(first word, flags, payload), or None at the end."""
        if not await self._fill(8):
            return None
        first, second = struct.unpack_from(">II", self._buffer)
        length = second & 0xFF_FFFF
        if length > FRAME_LIMIT:
            raise StreamProtocolError(f"a frame of {length} bytes; the limit is {FRAME_LIMIT}")
        if not await self._fill(8 + length):
            return None
        payload = bytes(self._buffer[8 : 8 + length])
        del self._buffer[: 8 + length]
        return first, second >> 24, payload

    async def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            data = await self._pipe.read()
            if not data:
                return False
            self._buffer += data
        return True

    async def _receive(self, first: int, flags: int, payload: bytes) -> None:
        if not first & CONTROL:
            await self._receive_data(first, flags, payload)
            return
        type_ = first & 0xFFFF
        try:
            if type_ == SYN_STREAM:
                await self._open(flags, payload)
            elif type_ == RST_STREAM:
                await self._feed_end(struct.unpack_from(">I", payload)[0])
            elif type_ == PING:
                await self.send_control(PING, payload)
        except struct.error as error:
            raise StreamProtocolError(f"a control frame of type {type_} is cut short") from error

    async def _receive_data(self, number: int, flags: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return  # data may cross the reset of its stream
        if payload:
            await stream.feed(payload)
        if flags & FIN:
            await stream.feed(b"")

    async def _feed_end(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            await stream.feed(b"")

    async def _open(self, flags: int, payload: bytes) -> None:
        number, _associated, _priority = struct.unpack_from(">IIH", payload)
        if len(self._streams) >= STREAMS_LIMIT:
            raise StreamProtocolError(f"more than {STREAMS_LIMIT} streams on one connection")
        stream = SpdyStream(self, number, self._headers.decode(payload[10:]))
        self._streams[number] = stream
        await self.send_control(SYN_REPLY, struct.pack(">I", number) + self._headers.encode({}))
        if flags & FIN:
            await stream.feed(b"")
        self._opened.put_nowait(stream)
