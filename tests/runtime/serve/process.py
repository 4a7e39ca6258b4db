"""The real process `kaito-runtime serve` on a free loopback port, for what only a process can show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.runtime.model.main import find_builtin
from tests.runtime.serve.serving import MODEL


@dataclass
class ServerProcess:
    url: str
    process: asyncio.subprocess.Process

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def server_process(folder: Path, *, starts_within: float = 120, **environ: str) -> AsyncIterator[ServerProcess]:
    """Ready to answer; killed at the end if it still runs. `folder` takes its last words."""
    environment = {
        **os.environ,
        "KAITO_HOST": "127.0.0.1",
        "KAITO_PORT": "0",
        "KAITO_MODEL_DIR": str(find_builtin(MODEL)),
        "KAITO_PRESET": MODEL,
        "KAITO_TERMINATION_LOG": str(folder / "last-words"),
        "OMP_NUM_THREADS": "1",
        **environ,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kaito.runtime.main", "serve", env=environment, stdout=asyncio.subprocess.PIPE
    )
    reading: asyncio.Task[Any] | None = None
    try:
        assert process.stdout is not None
        async with asyncio.timeout(starts_within):
            while (event := _event(await process.stdout.readline())).get("event") != "serving":
                pass
        reading = asyncio.create_task(process.stdout.read())
        yield ServerProcess(f"http://127.0.0.1:{event['port']}", process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if reading is not None:
            await reading


def _event(line: bytes) -> dict[str, Any]:
    """An engine that is a process of its own writes its log in between."""
    assert line, "the server ended; what it wrote is above"
    try:
        event: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
    except ValueError:
        return {}
    return event
