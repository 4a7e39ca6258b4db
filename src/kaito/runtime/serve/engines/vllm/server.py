"""vLLM's server as a child process: started on a free loopback port, watched, and ended with all that it started.

It gets a session of its own: a SIGTERM to this server's group must first drain what is being answered. What it writes
is passed on, and its last lines become the reason when it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from kaito.runtime.errors import InputError, RuntimeFailure, StepError
from kaito.runtime.ports import free_port
from kaito.runtime.serve.engines.base import ServedModel
from kaito.runtime.serve.engines.vllm.adapters import lora_modules
from kaito.runtime.serve.engines.vllm.command import Launch, render_command, served_names
from kaito.runtime.serve.settings import Settings

POLL_INTERVAL = 0.25  # seconds between two looks at a server that starts
STOP_TIMEOUT = 15.0  # seconds to end by itself
LINE_LIMIT = 1 << 20  # bytes of one line of its log
KEPT_LINES = 60
USAGE_EXIT = 2  # argparse's exit code
USAGE_ERROR = re.compile(r"\berror: (.+)")
EXCEPTION = re.compile(r"(?:^|\s)((?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)): (.+)")
MEMORY = re.compile(r"KV cache|out of memory|free memory on device|No available memory", re.IGNORECASE)
# What the child is not given: the keys are asked for by this server, in front of it.
WITHHELD = ("VLLM_API_KEY", "KAITO_API_KEYS")
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the weights are here
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # it compiles kernels at the start, for which the image has no compiler
    "VLLM_USE_DEEP_GEMM": "0",  # the same
}


class VllmServer:
    """Implements `base.Lifecycle`. `url` is where the child answers."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        has_cuda: bool,
        has_bfloat16: bool = True,
        python: str = sys.executable,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._scratch = Path(tempfile.mkdtemp(prefix="kaito-adapters-"))
        adapters = lora_modules(settings.adapters, self._scratch)
        self._launch = Launch(
            settings.model_dir,
            settings.model_name,
            free_port(),
            settings.engine_options,
            adapters,
            has_cuda,
            has_bfloat16,
        )
        self.command = render_command(python, self._launch)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._launch.port}"

    @property
    def can_load_adapters(self) -> bool:
        """On a CPU, one more adapter than it was started with would answer for the base model (see `command`)."""
        return self._launch.has_cuda

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def models(self) -> list[ServedModel]:
        """What it was started with; adapters that came later are in its own /v1/models."""
        base, *others = served_names(self._launch)
        names = [ServedModel(name, str(self._launch.model_dir)) for name in (base, *others)]
        return names + [ServedModel(one.name, str(one.folder), base) for one in self._launch.adapters]

    async def start(self) -> None:
        """Returns once it answers; how long that may take is for the startup probe to say."""
        parent = [sys.executable, "-m", "kaito.runtime.serve.engines.vllm.launch", str(os.getpid())]
        withheld = WITHHELD if self._launch.has_cuda else (*WITHHELD, "VLLM_ALLOW_RUNTIME_LORA_UPDATING")
        environ = {key: value for key, value in self._environ.items() if key not in withheld}
        self._process = await asyncio.create_subprocess_exec(
            *parent,
            *self.command,
            env={**ENVIRONMENT, **environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        self._reading = asyncio.create_task(self._pass_on(self._process))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while not await self._answers(session):
                if not self.is_alive:
                    await self._reading
                    raise self._failure(self._process.returncode or 0)
                await asyncio.sleep(POLL_INTERVAL)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line beyond the limit; asyncio has dropped it
                continue
            if not line:
                break
            text = line.decode("utf-8", "replace").rstrip()
            self._lines.append(text)
            print(text, flush=True)
        await process.wait()

    def _failure(self, code: int) -> RuntimeFailure:
        """Why it did not start, from its last lines."""
        lines = list(self._lines)
        usage = next((found[1] for line in reversed(lines) if (found := USAGE_ERROR.search(line))), None)
        if code == USAGE_EXIT and usage:
            return InputError(
                "ConfigInvalid", f"vllm refuses its flags: {usage}", "correct `vllm:` in inference_config.yaml"
            )
        causes = [found for line in lines if (found := EXCEPTION.search(line))]
        # The first exception is the cause; those after it say that a part of the engine ended.
        what = f"{causes[0][1]}: {causes[0][2]}" if causes else (lines[-1] if lines else "it wrote nothing")
        if MEMORY.search(what):
            return InputError("MemoryTooSmall", f"vllm ended: {what}", "set max-model-len lower, or use a larger GPU")
        return StepError("EngineFailed", f"vllm ended with exit code {code}: {what}", "the log above has all of it")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL to its whole session after STOP_TIMEOUT."""
        process = self._process
        if process is not None and self._reading is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
            with contextlib.suppress(ProcessLookupError):  # its workers too, which hold the GPU
                os.killpg(process.pid, signal.SIGKILL)
            await self._reading
        shutil.rmtree(self._scratch, ignore_errors=True)
