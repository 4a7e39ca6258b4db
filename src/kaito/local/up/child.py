"""A child process of the control plane: started again when it dies, and ended with its parent, however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

TETHER = Path(__file__).with_name("tether.py")
FIRST_BACKOFF = 1.0
LAST_BACKOFF = 30.0
STEADY_SECONDS = 60.0
"""A child that ran so long starts from the shortest back-off again."""
STOP_SECONDS = 5.0
LOG_LIMIT = 20 << 20


class Child:
    """`run` it until cancelled; it then stops. `health_port` answers /readyz once the child is at work."""

    def __init__(
        self, name: str, command: Sequence[str], *, log_file: Path, environ: Mapping[str, str], health_port: int
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]
        self._log_file = log_file
        self._environ = dict(environ)
        self._health_port = health_port

    async def run(self) -> None:
        backoff = FIRST_BACKOFF
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._run_once()
            backoff = FIRST_BACKOFF if loop.time() - began > STEADY_SECONDS else backoff
            extra = {"child": self.name, "code": code, "retry_in": backoff, "log": str(self._log_file)}
            log.error("a controller ended and is started again", extra=extra)
            await asyncio.sleep(backoff)
            backoff = min(LAST_BACKOFF, backoff * 2)

    async def wait_ready(self, patience: float) -> bool:
        """Return once the child says that it is at work. False when it did not within `patience` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not await self._is_ready():
                    await asyncio.sleep(0.05)
                return True
        return False

    def last_line(self) -> str:
        lines = self._log_file.read_text(errors="replace").strip().splitlines() if self._log_file.exists() else []
        return lines[-1] if lines else "it wrote nothing"

    async def _run_once(self) -> int:
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_LIMIT:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        with self._log_file.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            return await process.wait()
        finally:
            await stop_process(process)

    async def _is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._health_port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            words = (await reader.readline()).split(maxsplit=2)
        except OSError:
            return False
        finally:
            writer.close()
        return len(words) > 1 and words[1] == b"200"


async def stop_process(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL after STOP_SECONDS."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
