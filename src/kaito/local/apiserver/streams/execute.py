"""pods/exec and pods/attach: a command's streams between kubectl and the node agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from kaito.local.apiserver.call import Call
from kaito.local.apiserver.streams import channels as ch
from kaito.local.apiserver.streams.errors import StreamError, StreamProtocolError
from kaito.local.apiserver.streams.logs import backend_status, chosen_container
from kaito.local.apiserver.streams.pipes import take_over
from kaito.local.apiserver.streams.spdy import SpdyConnection, SpdyStream
from kaito.local.backend import BackendError, ExecStream, PodBackend
from kaito.local.machinery import errors
from kaito.local.store.records import Object

OPEN_SECONDS = 30.0
"""How long a client may take to open the streams that it asked for."""
Opener = Callable[[], Awaitable[ExecStream]]


@dataclass(frozen=True)
class Wanted:
    """The query of an exec or an attach."""

    command: list[str]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    joins: bool = False
    """An attach: it joins what runs, and how that ends is the pod's to tell, not the stream's."""

    @property
    def streams(self) -> set[str]:
        """The SPDY streams that the client will open."""
        named = {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr and not self.tty, "resize": self.tty}
        return {"error", *(name for name, wanted in named.items() if wanted)}


async def serve_command(backend: PodBackend, request: web.BaseRequest, call: Call, pod: Object) -> web.StreamResponse:
    """Raises StatusError while this can still be an HTTP answer; later ends go over the error stream."""
    wanted = _wanted(request.query, joins=call.subresource == "attach")
    container = chosen_container(call, pod, request.query.get("container", ""))
    if call.subresource == "exec" and not wanted.command:
        raise errors.bad_request("you must specify at least one command for the container")
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise errors.bad_request("you must specify at least one of stdin, stdout, stderr")
    upgrade = request.headers.get("Upgrade", "").lower()
    if upgrade not in ("websocket", "spdy/3.1"):
        raise errors.bad_request("unable to upgrade: the request must ask for SPDY/3.1 or a websocket")
    try:
        command = await _open(backend, call, container, wanted)
    except BackendError as error:
        raise backend_status(error) from error
    try:
        if upgrade == "websocket":
            return await _over_websocket(request, command, wanted)
        return await _over_spdy(request, command, wanted)
    finally:
        await command.kill()


def _wanted(query: MultiMapping[str], *, joins: bool) -> Wanted:
    def flag(name: str) -> bool:
        return query.get(name, "") in ("true", "True", "1", "t")

    return Wanted(query.getall("command", []), flag("stdin"), flag("stdout"), flag("stderr"), flag("tty"), joins)


async def _open(backend: PodBackend, call: Call, container: str, wanted: Wanted) -> ExecStream:
    if call.subresource == "attach":
        return await backend.attach(call.namespace, call.name, container, stdin=wanted.stdin, tty=wanted.tty)
    return await backend.exec(call.namespace, call.name, container, wanted.command, stdin=wanted.stdin, tty=wanted.tty)


async def _over_websocket(request: web.BaseRequest, command: ExecStream, wanted: Wanted) -> web.StreamResponse:
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if not any(name in ch.WEBSOCKET_PROTOCOLS for name in offered):
        raise errors.bad_request(f"none of the subprotocols {offered} is served; {ch.WEBSOCKET_PROTOCOLS} are")
    socket = web.WebSocketResponse(protocols=ch.WEBSOCKET_PROTOCOLS, heartbeat=30.0, max_msg_size=4 * 1024 * 1024)
    await socket.prepare(request)
    channels = ch.WebSocketChannels(socket, stdin=wanted.stdin)
    await _relay(channels, channels.run(), command, wanted)
    return socket


async def _over_spdy(request: web.BaseRequest, command: ExecStream, wanted: Wanted) -> web.StreamResponse:
    offered = [
        name.strip() for line in request.headers.getall("X-Stream-Protocol-Version", []) for name in line.split(",")
    ]
    protocol = next((name for name in ch.SPDY_PROTOCOLS if name in offered), "")
    if not protocol:
        raise errors.bad_request(f"none of the stream protocols {offered} is served; {ch.SPDY_PROTOCOLS} are")
    pipe = take_over(request, {"Upgrade": "SPDY/3.1", "Connection": "Upgrade", "X-Stream-Protocol-Version": protocol})
    connection = SpdyConnection(pipe)
    reading = asyncio.create_task(connection.run())
    try:
        streams = await _opened(connection, wanted.streams)
        await _relay(ch.SpdyChannels(connection, streams), _finished(reading), command, wanted)
    except (StreamError, TimeoutError):
        pass  # the client broke off; there is nobody to tell
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await connection.close()
    return web.Response(status=499)


async def _finished(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


async def _opened(connection: SpdyConnection, names: set[str]) -> dict[str, SpdyStream]:
    """The streams by their names, once the client has opened all of them."""
    streams: dict[str, SpdyStream] = {}
    async with asyncio.timeout(OPEN_SECONDS):
        while names - streams.keys():
            stream = await connection.accept()
            if stream is None:
                raise StreamProtocolError("the client left before it opened its streams")
            streams[stream.headers.get("streamtype", "")] = stream
    return streams


async def _relay(
    channels: ch.Channels, reading: Coroutine[Any, Any, None], command: ExecStream, wanted: Wanted
) -> None:
    """Until the command has ended and said all, or the client is gone."""
    inputs = [asyncio.create_task(reading)]
    if wanted.stdin:
        inputs.append(asyncio.create_task(_pump_stdin(channels, command)))
    if wanted.tty:
        inputs.append(asyncio.create_task(_pump_resizes(channels, command)))
    outputs = asyncio.create_task(_pump_outputs(channels, command, wanted))
    gone = asyncio.create_task(channels.gone())
    try:
        await asyncio.wait([outputs, gone], return_when=asyncio.FIRST_COMPLETED)
        if outputs.done() and not outputs.exception():
            with suppress(StreamError):
                await channels.finish(exit_status(0 if wanted.joins else outputs.result()))
    finally:
        tasks = [*inputs, outputs, gone]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump_stdin(channels: ch.Channels, command: ExecStream) -> None:
    while data := await channels.read_stdin():
        await command.write_stdin(data)
    await command.close_stdin()


async def _pump_resizes(channels: ch.Channels, command: ExecStream) -> None:
    while (size := await channels.next_resize()) is not None:
        await command.resize(*size)


async def _pump_outputs(channels: ch.Channels, command: ExecStream, wanted: Wanted) -> int:
    """The exit code, once everything that was said has been passed on."""

    async def pump(channel: int, read: Callable[[], Awaitable[bytes]], passed: bool) -> None:
        while data := await read():
            if passed:
                await channels.write(channel, data)

    await asyncio.gather(
        pump(ch.STDOUT, command.read_stdout, wanted.stdout),
        pump(ch.STDERR, command.read_stderr, wanted.stderr),
    )
    return await command.wait()


def exit_status(code: int) -> Object:
    """The Status on the error stream (protocol v4): how the command ended."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
