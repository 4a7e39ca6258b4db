from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kaito.local.proxy.listener import Listener, PortUnavailable, bind, stand_ins
from kaito.local.proxy.targets import Target
from tests.local.proxy.echo import ask, echo_server


@asynccontextmanager
async def listening(*targets: Target) -> AsyncIterator[Listener]:
    listener = Listener("127.0.0.1", 0)
    await listener.lead_to(targets)
    try:
        yield listener
    finally:
        await listener.close()


def free_port() -> int:
    """A port that nobody listens on: it was ours a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_it_forwards_and_passes_on_the_half_close() -> None:
    async with echo_server("a") as target, listening(target) as listener:
        assert await ask("127.0.0.1", listener.real_port, b"hello") == b"a:hello"


async def test_targets_take_turns() -> None:
    async with echo_server("a") as one, echo_server("b") as other, listening(one, other) as listener:
        answers = [await ask("127.0.0.1", listener.real_port) for _ in range(6)]
        assert sorted(answers) == [b"a:"] * 3 + [b"b:"] * 3


async def test_a_dead_target_is_passed_over() -> None:
    async with echo_server("a") as target, listening(("127.0.0.1", free_port()), target) as listener:
        assert [await ask("127.0.0.1", listener.real_port) for _ in range(4)] == [b"a:"] * 4


async def test_without_a_target_the_connection_is_refused() -> None:
    async with echo_server("a") as target, listening() as listener:
        port = listener.real_port
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await ask("127.0.0.1", port)
            await listener.lead_to([target])
            assert await ask("127.0.0.1", port) == b"a:"
            await listener.lead_to([])
        assert listener.real_port == port


async def test_when_no_target_answers_the_connection_is_cut_at_once() -> None:
    async with listening(("127.0.0.1", free_port())) as listener, asyncio.timeout(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.real_port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


async def test_targets_may_change_while_it_listens() -> None:
    async with echo_server("a") as one, echo_server("b") as other, listening(one) as listener:
        assert await ask("127.0.0.1", listener.real_port) == b"a:"
        await listener.lead_to([other])
        assert await ask("127.0.0.1", listener.real_port) == b"b:"


async def test_much_data_arrives_whole() -> None:
    data = bytes(range(256)) * 40_000
    async with echo_server("a") as target, listening(target) as listener:
        assert await ask("127.0.0.1", listener.real_port, data) == b"a:" + data


async def test_a_reader_that_does_not_read_slows_the_writer() -> None:
    """The target never reads: what the client can send is what the buffers on the way hold, not all it has."""
    stop = asyncio.Event()

    async def sulk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    server = await asyncio.start_server(sulk, "127.0.0.1", 0, limit=1024)
    async with listening(server.sockets[0].getsockname()[:2]) as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.real_port)
        sent, chunk = 0, b"x" * (1 << 20)
        with pytest.raises(TimeoutError):
            for _ in range(200):
                writer.write(chunk)
                async with asyncio.timeout(0.5):
                    await writer.drain()
                sent += len(chunk)
        assert sent < 64 << 20
        writer.transport.abort()
        stop.set()
    server.close()
    await server.wait_closed()


async def test_closing_cuts_what_runs() -> None:
    async with echo_server("a") as target:
        async with listening(target) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.real_port)
            writer.write(b"half")
            await writer.drain()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


def test_a_port_that_is_taken_gets_a_stand_in_that_stays_the_same() -> None:
    address, port = "127.96.251.9", 8080  # An address that no connection of this machine starts from.
    with socket.socket() as holder:
        holder.bind((address, port))
        holder.listen()
        for _ in range(2):
            with bind(address, port) as stand_in:
                assert stand_in.getsockname()[1] == 28080


@pytest.mark.parametrize(("port", "first"), [(80, 20080), (443, 20443), (29500, 49500), (60000, 35000)])
def test_stand_ins(port: int, first: int) -> None:
    assert next(stand_ins(port)) == first


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(PortUnavailable, match=r"192\.0\.2\.1:80 cannot be bound"):
        bind("192.0.2.1", 80)
