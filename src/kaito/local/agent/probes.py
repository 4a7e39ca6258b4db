"""Startup, readiness and liveness probes of one running container.

Each probe is a task that asks again every `periodSeconds`. Results change `Health`; the pod is woken only when what the
status shows, or what must be done, has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

HEAD_LIMIT = 64 * 1024
Command = Callable[[list[str], float], Awaitable["Verdict"]]
"""Runs a command in the container's surroundings, for at most so many seconds."""


@dataclass(frozen=True)
class Verdict:
    passed: bool
    message: str = ""


@dataclass
class Health:
    """What the probes have found: as Kubernetes starts out, ready and started where no probe says otherwise."""

    started: bool
    ready: bool
    unhealthy: str = ""
    """Why the container must be killed; empty while it need not."""

    @classmethod
    def of(cls, container: dict[str, Any]) -> Health:
        started = container.get("startupProbe") is None
        return cls(started, started and container.get("readinessProbe") is None)


class Prober:
    """The probes of one run of a container. `changed` is called when `health` does."""

    def __init__(self, container: dict[str, Any], host: str, run_command: Command, changed: Callable[[], None]) -> None:
        self.health = Health.of(container)
        self._container = container
        self._host = host
        self._run_command = run_command
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if any(self._container.get(name) for name in ("startupProbe", "readinessProbe", "livenessProbe")):
            self._task = asyncio.create_task(self._run(), name=f"probes of {self._container['name']}")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        startup = self._container.get("startupProbe")
        if startup is not None and not await self._await_start(startup):
            return
        async with asyncio.TaskGroup() as group:
            if self._container.get("readinessProbe"):
                group.create_task(self._follow_readiness(self._container["readinessProbe"]))
            elif not self.health.ready:
                self._set_ready(True)
            if self._container.get("livenessProbe"):
                group.create_task(self._follow_liveness(self._container["livenessProbe"]))

    async def _await_start(self, probe: dict[str, Any]) -> bool:
        failures = 0
        await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
        while True:
            verdict = await self._ask(probe)
            if verdict.passed:
                self.health.started = True
                self._changed()
                return True
            failures += 1
            if failures >= (probe.get("failureThreshold") or 3):
                self._condemn("startup", verdict)
                return False
            await asyncio.sleep(probe.get("periodSeconds") or 10)

    async def _follow_readiness(self, probe: dict[str, Any]) -> None:
        passed = failed = 0
        await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
        while True:
            verdict = await self._ask(probe)
            passed, failed = (passed + 1, 0) if verdict.passed else (0, failed + 1)
            if passed >= (probe.get("successThreshold") or 1):
                self._set_ready(True)
            elif failed >= (probe.get("failureThreshold") or 3):
                self._set_ready(False)
            await asyncio.sleep(probe.get("periodSeconds") or 10)

    async def _follow_liveness(self, probe: dict[str, Any]) -> None:
        failures = 0
        await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
        while True:
            verdict = await self._ask(probe)
            failures = 0 if verdict.passed else failures + 1
            if failures >= (probe.get("failureThreshold") or 3):
                self._condemn("liveness", verdict)
                return
            await asyncio.sleep(probe.get("periodSeconds") or 10)

    def _set_ready(self, ready: bool) -> None:
        if self.health.ready != ready:
            self.health.ready = ready
            self._changed()

    def _condemn(self, which: str, verdict: Verdict) -> None:
        self.health.unhealthy = f"{which} probe failed: {verdict.message}"
        self._changed()

    async def _ask(self, probe: dict[str, Any]) -> Verdict:
        seconds = float(probe.get("timeoutSeconds") or 1)
        if probe.get("exec"):
            return await self._run_command(list(probe["exec"].get("command") or ()), seconds)
        try:
            async with asyncio.timeout(seconds):
                if probe.get("httpGet"):
                    return await self._http_get(probe["httpGet"])
                if probe.get("tcpSocket"):
                    return await self._connect(probe["tcpSocket"])
        except TimeoutError:
            return Verdict(False, f"no answer within {seconds:g} s")
        except (OSError, ValueError) as error:
            return Verdict(False, str(error))
        return Verdict(False, "only httpGet, tcpSocket and exec probes are supported on one machine")

    async def _connect(self, action: dict[str, Any]) -> Verdict:
        host = action.get("host") or self._host
        _, writer = await asyncio.open_connection(host, resolve_port(self._container, action["port"]))
        writer.close()
        return Verdict(True)

    async def _http_get(self, action: dict[str, Any]) -> Verdict:
        host, port = action.get("host") or self._host, resolve_port(self._container, action["port"])
        context = _unverified() if str(action.get("scheme", "")).upper() == "HTTPS" else None
        reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=HEAD_LIMIT)
        try:
            given = {h["name"]: h["value"] for h in action.get("httpHeaders") or ()}
            headers = {"Host": f"{host}:{port}", "User-Agent": "kaito-probe", "Connection": "close", **given}
            lines = [f"GET {action.get('path') or '/'} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            await writer.drain()
            words = (await reader.readline()).decode(errors="replace").split(maxsplit=2)
        finally:
            writer.close()
        if len(words) < 2 or not words[1].isdigit():
            return Verdict(False, "the answer is not HTTP")
        return Verdict(200 <= int(words[1]) < 400, f"HTTP probe failed with statuscode: {words[1]}")


def resolve_port(container: dict[str, Any], port: int | str) -> int:
    """A port by number, or by the name that the container gives it. Raises ValueError."""
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    for named in container.get("ports") or ():
        if named.get("name") == port:
            return int(named["containerPort"])
    raise ValueError(f"the container has no port named {port!r}")


def _unverified() -> ssl.SSLContext:
    """Probes do not check certificates; the kubelet does not either."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def run_command(argv: list[str], environ: dict[str, str], cwd: str, seconds: float) -> Verdict:
    """Run a command to its end; passed when it exits with 0 within `seconds`. Its output is the message."""
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            env=environ,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Verdict(False, f"cannot start {argv[0]!r}: {error.strerror}")
    try:
        async with asyncio.timeout(seconds):
            output, _ = await child.communicate()
    except TimeoutError:
        return Verdict(False, f"command timed out after {seconds:g} s")
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    return Verdict(child.returncode == 0, output[-1024:].decode(errors="replace").strip())
