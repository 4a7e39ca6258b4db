"""Two connections made one: bytes both ways, each end's half-close passed on, a slow reader slowing its writer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

CHUNK = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def forward(client: Stream, target: Stream) -> None:
    """Copy until both directions have ended, or one broke. Closes neither."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(client[0], target[1]))
        group.create_task(_copy(target[0], client[1]))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """`drain` waits while the other side does not read: that is the back pressure, at most one buffer is in memory."""
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def close(writer: asyncio.StreamWriter, *, abort: bool = False) -> None:
    """Close a connection; with `abort` reset it, lest the other end takes a broken answer for a whole one."""
    if abort:
        with contextlib.suppress(OSError):  # Already cut by the other end.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.transport.abort()
    else:
        writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
