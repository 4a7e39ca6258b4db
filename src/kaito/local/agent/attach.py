"""The agent's half of the shim's socket: a container's or a command's streams, as the API server's ExecStream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

from kaito.local.backend import BackendError

STDIN, STDOUT, STDERR, EXIT, RESIZE, CLOSE_STDIN = range(6)
"""Frame types. The shim's half is in `shim.py`, which imports nothing of ours."""
HEAD = struct.Struct(">BI")
SOCKET = "attach.sock"
QUEUE_CHUNKS = 16
"""Chunks of output held for a reader; a slow one holds back the command."""


class ShimStream:
    """A connection to one shim. Implements `kaito.local.backend.ExecStream`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closed: Callable[[], None] = lambda: None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._closed = closed
        self._queues: dict[int, asyncio.Queue[bytes]] = {k: asyncio.Queue(QUEUE_CHUNKS) for k in (STDOUT, STDERR)}
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pump_task = asyncio.create_task(self._pump(), name="streams of a container")

    async def read_stdout(self) -> bytes:
        return await self._queues[STDOUT].get()

    async def read_stderr(self) -> bytes:
        return await self._queues[STDERR].get()

    async def write_stdin(self, data: bytes) -> None:
        await self._send(STDIN, data)

    async def close_stdin(self) -> None:
        await self._send(CLOSE_STDIN, b"")

    async def resize(self, columns: int, rows: int) -> None:
        await self._send(RESIZE, struct.pack(">HH", min(columns, 65535), min(rows, 65535)))

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    async def kill(self) -> None:
        """Leave. A command is killed by that; a container goes on."""
        self._pump_task.cancel()
        self._end(137)

    async def _send(self, kind: int, data: bytes) -> None:
        if self._code.done():
            return
        with contextlib.suppress(ConnectionError):  # the process ended; `wait` says so
            self._writer.write(HEAD.pack(kind, len(data)) + data)
            await self._writer.drain()

    async def _pump(self) -> None:
        code = 137
        try:
            while True:
                kind, length = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                data = await self._reader.readexactly(length)
                if kind == EXIT:
                    code = await self._ended(json.loads(data))
                    return
                await self._queues[kind].put(data)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._end(code)
            for queue in self._queues.values():
                await queue.put(b"")

    async def _ended(self, result: dict[str, object]) -> int:
        if result.get("error"):
            await self._queues[STDERR].put(f"{result['error']}\n".encode())
        code = result.get("code")
        return code if isinstance(code, int) else 137

    def _end(self, code: int) -> None:
        self._writer.close()
        if not self._code.done():
            self._code.set_result(code)
            self._closed()


async def connect(folder: Path, *, patience: float, closed: Callable[[], None] = lambda: None) -> ShimStream:
    """Connect to the shim that works in `folder`, waiting up to `patience` seconds for it to listen."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            reader, writer = await _open(folder)
            return ShimStream(reader, writer, closed)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise BackendError(500, "the container cannot be reached; it may just have ended") from error
            await asyncio.sleep(0.01)  # the shim says nothing when it begins to listen


async def _open(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket's path is limited to 107 bytes, so the folder is named by a descriptor."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)
