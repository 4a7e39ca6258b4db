"""What the API server asks of the node agent: the streams of a pod (logs, exec, attach, port-forward).

In a cluster the API server dials the kubelet for these. Here both live in one process, and this is the seam.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


class BackendError(Exception):
    """A stream that cannot be opened. `code` is the HTTP status that the client gets, the text is for people."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class LogOptions:
    container: str = ""  # empty: the pod's default container
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    limit_bytes: int | None = None


class ExecStream(Protocol):
    """A running command: bytes in, bytes out, an exit code. Reads end with b"".

    Writes wait when the command is slow.
    """

    async def read_stdout(self) -> bytes: ...
    async def read_stderr(self) -> bytes: ...
    async def write_stdin(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    async def resize(self, columns: int, rows: int) -> None: ...
    async def wait(self) -> int: ...
    async def kill(self) -> None: ...


class PodBackend(Protocol):
    """Every call raises BackendError: 404 for a pod or container that the agent does not run, 400 for a bad request."""

    def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]: ...

    async def exec(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecStream: ...

    async def attach(self, namespace: str, pod: str, container: str, *, stdin: bool, tty: bool) -> ExecStream: ...

    async def address(self, namespace: str, pod: str) -> str:
        """The pod's IP: where port-forward and the pod proxy connect."""
        ...
