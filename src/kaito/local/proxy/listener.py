"""One Service port: a listening socket, and round robin over what is behind it."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator, Sequence

from kaito.local.proxy.forward import Stream, close, forward
from kaito.local.proxy.targets import Target

log = logging.getLogger(__name__)

FIRST_FALLBACK = 20000
LAST_FALLBACK = 65000
CONNECT_SECONDS = 2.0
"""For one target; addresses on this machine answer or refuse at once."""
BACKLOG = 512


class PortUnavailable(OSError):
    """Neither the port nor any of its stand-ins can be bound."""


class Listener:
    """Holds `address:port`, or a stand-in above 20000 when that port may not be bound.

    It listens while there is a target; without one the port is only held, so that the kernel refuses connections as a
    cluster does.
    """

    def __init__(self, address: str, port: int) -> None:
        """Raises PortUnavailable."""
        self.address = address
        self.port = port
        self._held: socket.socket | None = bind(address, port)
        self.real_port = int(self._held.getsockname()[1])
        self._targets: tuple[Target, ...] = ()
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def lead_to(self, targets: Sequence[Target]) -> None:
        """Forward new connections to these from now on. Raises PortUnavailable when the port was lost meanwhile."""
        self._targets = tuple(targets)
        if targets and self._server is None:
            held = self._held or bind(self.address, self.real_port)
            self._held = None
            try:
                self._server = await asyncio.start_server(self._accept, sock=held, backlog=BACKLOG)
            except OSError as error:  # Another program listens there: holding a port does not keep it from doing so.
                held.close()
                raise PortUnavailable(f"{self.address}:{self.real_port} was lost: {error}") from error
            self.real_port = int(self._server.sockets[0].getsockname()[1])
        elif not targets and self._server is not None:
            self._server.close()
            self._server = None
            self._held = bind(self.address, self.real_port)
            self.real_port = int(self._held.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and cut what runs."""
        if self._held is not None:
            self._held.close()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broken = True
        try:
            target = await self._connect()
            if target is not None:
                try:
                    await forward((reader, writer), target)
                    broken = False
                finally:
                    await close(target[1], abort=broken)
        except* OSError as error:
            log.debug("connection broke off", extra={"service": self.address, "error": str(error.exceptions[0])})
        finally:
            await close(writer, abort=broken)

    async def _connect(self) -> Stream | None:
        """A connection to the next target that takes one; None when none does."""
        for address, port in self._in_turn():
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port)
            except OSError as error:  # TimeoutError is one.
                log.info("target refused", extra={"target": f"{address}:{port}", "error": str(error)})
        return None

    def _in_turn(self) -> Iterator[Target]:
        targets = self._targets
        self._turn += 1
        for offset in range(len(targets)):
            yield targets[(self._turn + offset) % len(targets)]


def bind(address: str, port: int) -> socket.socket:
    """A bound socket: on the port itself, else on the first stand-in that is free."""
    for candidate in (port, *stand_ins(port)):
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, candidate))
        except OSError as error:
            bound.close()
            if error.errno not in (errno.EACCES, errno.EADDRINUSE, errno.EPERM):
                raise PortUnavailable(f"{address}:{port} cannot be bound: {error}") from error
        else:
            bound.setblocking(False)
            return bound
    raise PortUnavailable(f"no port of {address} is free for {port}, nor from {FIRST_FALLBACK} to {LAST_FALLBACK}")


def stand_ins(port: int) -> Iterator[int]:
    """From 20000 + port upward, then around: deterministic, so that a restart finds the same one."""
    span = LAST_FALLBACK - FIRST_FALLBACK
    for offset in range(span):
        yield FIRST_FALLBACK + (port + offset) % span
