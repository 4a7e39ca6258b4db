"""A node agent that runs a pod's commands as plain processes of this machine: the other side of the pod streams."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from kaito.local.backend import BackendError, ExecStream, LogOptions


class ProcessStream:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.sizes: list[tuple[int, int]] = []

    async def read_stdout(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.read(32768)

    async def read_stderr(self) -> bytes:
        assert self._process.stderr is not None
        return await self._process.stderr.read(32768)

    async def write_stdin(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def wait(self) -> int:
        return await self._process.wait()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class ProcessBackend:
    """Every pod's address is this machine's loopback; its log is `lines`."""

    def __init__(self) -> None:
        self.lines = [b"first\n", b"second\n", b"third\n"]
        self.asked: list[LogOptions] = []
        self.followed = asyncio.Event()

    async def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        self.asked.append(options)
        if options.previous:
            raise BackendError(400, f'previous terminated container "{options.container}" in pod "{pod}" not found')
        tail = options.tail_lines
        for line in self.lines if tail is None else self.lines[len(self.lines) - tail :]:
            yield line
        if options.follow:
            await self.followed.wait()
            yield b"last\n"

    async def exec(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecStream:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, env={"PATH": os.environ["PATH"], "POD": pod}
            )
        except OSError as error:
            raise BackendError(400, f"cannot run {command[0]}: {error.strerror}") from error
        return ProcessStream(process)

    async def attach(self, namespace: str, pod: str, container: str, *, stdin: bool, tty: bool) -> ExecStream:
        return await self.exec(namespace, pod, container, ["cat"], stdin=stdin, tty=tty)

    async def address(self, namespace: str, pod: str) -> str:
        return "127.0.0.1"
