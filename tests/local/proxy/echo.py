"""Servers behind a Service, on loopback addresses of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def echo_server(name: str, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[str, int]]:
    """Reads to the end, then answers with its name and what it read; so it tests half-close too."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode() + b":" + await reader.read())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, address, port)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await server.wait_closed()


async def ask(address: str, port: int, question: bytes = b"") -> bytes:
    """What comes back when the question has been sent and this side is closed."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(question)
        await writer.drain()
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
