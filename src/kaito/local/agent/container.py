"""One container of a pod: its runs, the last two of which are kept on disk, and what its probes say."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaito.api.conditions import timestamp
from kaito.local.agent.config import AgentConfig
from kaito.local.agent.engines import ENGINE_ERROR, inside
from kaito.local.agent.lifecycle import View, next_backoff, parse_time
from kaito.local.agent.logs import last_words
from kaito.local.agent.probes import Health, Prober, Verdict, resolve_port, run_command
from kaito.local.agent.run import Exit, Run
from kaito.local.agent.status import ContainerReport

MESSAGE_BYTES = 4096
KEPT_RUNS = 2
KILL_SECONDS = 5.0
"""How long the kernel may take to end a killed process before we go on without its exit."""


class Container:
    def __init__(self, folder: Path, spec: dict[str, Any], config: AgentConfig, *, is_init: bool) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.is_init = is_init
        self.folder = folder
        self.run: Run | None = None
        self.refused: tuple[str, str] | None = None
        """Why it cannot be started: reason and message for its waiting state."""
        self._config = config
        self._prober: Prober | None = None
        self._stopping = False

    @property
    def is_sidecar(self) -> bool:
        return self.is_init and self.spec.get("restartPolicy") == "Always"

    @property
    def is_running(self) -> bool:
        return self.run is not None and self.run.is_running

    @property
    def health(self) -> Health:
        return self._prober.health if self._prober else Health.of(self.spec)

    def runs(self) -> list[Run]:
        """The runs on disk, oldest first."""
        if not self.folder.is_dir():
            return []
        numbers = sorted(int(path.name) for path in self.folder.iterdir() if (path / "run.json").exists())
        return [Run(self.folder / str(number), number) for number in numbers]

    def adopt(self, host: str, changed: Callable[[], None]) -> None:
        """Take up what an earlier agent left: the newest run, alive or ended."""
        kept = self.runs()
        if kept:
            self.run = kept[-1]
            self.run.adopt(self._on_exit(changed))
            if self.run.is_running:
                self._probe(host, changed)

    def start(self, spec: dict[str, Any], host: str, changed: Callable[[], None]) -> None:
        """Begin the next run. `spec` is the shim's run.json, less the back-off. Raises OSError."""
        number, backoff = 0, 0.0
        if self.run is not None:
            number = self.run.number + 1
            last = self.run.exit()
            lasted = _lasted(last) if last else 0.0
            before = float(self.run.spec.get("backoff", 0))
            if not self.run.was_stopped:
                backoff = next_backoff(before, lasted, self._config.first_backoff, self._config.last_backoff)
        for old in self.runs()[: -(KEPT_RUNS - 1)]:
            shutil.rmtree(old.folder, ignore_errors=True)
        self.run = Run(self.folder / str(number), number)
        began = timestamp(self._config.clock())
        self.run.start({**spec, "backoff": backoff, "began": began}, self._config.python, self._on_exit(changed))
        self.refused = None
        self._probe(host, changed)

    async def stop(self, grace: float) -> None:
        """preStop, SIGTERM, at most `grace` seconds in all, then SIGKILL to the whole group. Waits for the end."""
        run = self.run
        if run is None or not run.is_running or self._stopping:
            return
        self._stopping = True
        try:
            deadline = asyncio.get_running_loop().time() + grace
            if grace > 0:
                await self._pre_stop(run, grace)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await run.deliver(signal.SIGTERM, group=False)
            if not await run.wait(max(0.0, deadline - asyncio.get_running_loop().time())):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KILL_SECONDS):
                        await run.deliver(signal.SIGKILL, group=True)
                        await run.wait()
        finally:
            self._stopping = False
            if self._prober:
                self._prober.stop()

    def kill(self) -> None:
        if self.run is not None:
            self.run.signal(signal.SIGKILL)

    def release(self) -> None:
        """Let the container go on without us."""
        if self._prober:
            self._prober.stop()
        if self.run is not None:
            self.run.release()

    def view(self) -> View:
        run = self.run
        if run is None:
            return View(self.name, sidecar=self.is_sidecar)
        return View(
            self.name,
            running=run.is_running,
            exit=run.exit(),
            stopped=run.was_stopped and not run.is_running,
            backoff=float(run.spec.get("backoff", 0)),
            started=run.is_running and self.health.started,
            sidecar=self.is_sidecar,
        )

    def report(self, waiting: tuple[str, str] | None) -> ContainerReport:
        """For the status. `waiting` is its reason to wait, for a container that does not run and will."""
        image, run = str(self.spec.get("image") or ""), self.run
        waiting = self.refused or waiting
        if run is None:
            return ContainerReport(self.name, image, waiting=waiting)
        running = run.is_running
        kept = self.runs()
        previous = self.exit_of(kept[-2]) if len(kept) > 1 else None
        return ContainerReport(
            self.name,
            image,
            restarts=run.number,
            running_since=str(run.spec.get("began", "")) if running else "",
            ended=self.exit_of(run),
            previous=previous,
            waiting=None if running else waiting,
            started=running and self.health.started,
            ready=running and self.health.ready,
            container_id=f"kaito://{run.folder.parts[-4]}/{self.name}/{run.number}",
        )

    def exit_of(self, run: Run) -> Exit | None:
        """How a run ended, with its last words. A run that is not the newest has ended."""
        if run is not self.run:
            run.conclude()
        end = run.exit()
        if end is None or end.message:
            return end
        if end.code == ENGINE_ERROR and run.spec.get("engine_name"):
            return replace(end, reason="ContainerCannotRun", message=last_words(run.folder))
        policy = self.spec.get("terminationMessagePolicy")
        return replace(end, message=_termination_message(run.folder, end, policy == "FallbackToLogsOnError"))

    def _on_exit(self, changed: Callable[[], None]) -> Callable[[], None]:
        def ended() -> None:
            if self._prober:
                self._prober.stop()
            changed()

        return ended

    def _probe(self, host: str, changed: Callable[[], None]) -> None:
        if self._prober:
            self._prober.stop()
        self._prober = Prober(self.spec, host, self.run_command, changed)
        self._prober.start()

    async def run_command(self, argv: list[str], seconds: float) -> Verdict:
        """Run a command as the container would: its environment, its folder."""
        spec = self.run.spec if self.run else {}
        if not argv or not spec:
            return Verdict(False, "there is no command, or no container to run it in")
        return await run_command(inside(spec, argv), spec["env"], spec["cwd"], seconds)

    async def _pre_stop(self, run: Run, grace: float) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if hook.get("exec"):
            await self.run_command(list(hook["exec"].get("command") or ()), grace)
        elif hook.get("sleep"):
            await run.wait(min(grace, float(hook["sleep"].get("seconds") or 0)))
        elif hook.get("httpGet"):
            await self._call(hook["httpGet"], run, grace)

    async def _call(self, action: dict[str, Any], run: Run, grace: float) -> None:
        host = action.get("host") or run.spec.get("env", {}).get("KAITO_HOST", "127.0.0.1")
        with contextlib.suppress(OSError, TimeoutError, ValueError):  # a hook that fails does not keep a pod alive
            async with asyncio.timeout(grace):
                port = resolve_port(self.spec, action["port"])
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(
                    f"GET {action.get('path') or '/'} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                )
                await reader.read()
                writer.close()


def _termination_message(folder: Path, end: Exit, falls_back: bool) -> str:
    try:
        message = (folder / "termination").read_bytes()[-MESSAGE_BYTES:].decode(errors="replace")
    except OSError:
        message = ""
    if not message and falls_back and end.code != 0:
        message = last_words(folder)
    return message


def _lasted(end: Exit) -> float:
    if not end.started_at or not end.finished_at:
        return 0.0
    return (parse_time(end.finished_at) - parse_time(end.started_at)).total_seconds()
