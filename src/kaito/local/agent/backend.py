"""The streams of pods for the API server: logs, exec, attach, and where port-forward connects."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

from kaito.local.agent.attach import ShimStream, connect
from kaito.local.agent.config import AgentConfig
from kaito.local.agent.container import Container
from kaito.local.agent.engines import inside
from kaito.local.agent.logs import LogReader
from kaito.local.agent.pod import PodWorker
from kaito.local.agent.run import Run
from kaito.local.backend import BackendError, ExecStream, LogOptions

CONNECT_SECONDS = 5.0


class AgentBackend:
    """Implements `kaito.local.backend.PodBackend` over the pods that `find` knows."""

    def __init__(self, find: Callable[[str, str], PodWorker | None], config: AgentConfig) -> None:
        self._find = find
        self._config = config
        self._commands = 0

    async def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        worker = self._worker(namespace, pod)
        container = self._container(worker, options.container)
        run = self._run(worker, container, previous=options.previous)
        since = None
        if options.since_seconds is not None:
            since = self._config.clock() - timedelta(seconds=options.since_seconds)
        reader = LogReader(run.folder, lambda: not run.is_running, timestamps=options.timestamps, since=since)
        left = options.limit_bytes
        async for chunk in reader.read(tail=options.tail_lines, follow=options.follow):
            if left is None:
                yield chunk
                continue
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    async def exec(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecStream:
        worker = self._worker(namespace, pod)
        found = self._container(worker, container)
        if found.run is None or not found.is_running:
            raise BackendError(400, f"container {found.name} of pod {pod} is not running")
        if not command:
            raise BackendError(400, "you must specify at least one command for the container")
        self._commands += 1
        folder = worker.folder / "commands" / f"{found.run.number}-{self._commands}"
        argv = inside(found.run.spec, command, stdin=stdin, tty=tty)
        spec: dict[str, Any] = {**found.run.spec, "argv": argv, "tty": tty, "stdin": stdin, "exec": True, "cleanup": []}
        run = Run(folder, self._commands)
        run.start(spec, self._config.python, lambda: shutil.rmtree(folder, ignore_errors=True))
        return await connect(folder, patience=CONNECT_SECONDS)

    async def attach(self, namespace: str, pod: str, container: str, *, stdin: bool, tty: bool) -> ShimStream:
        worker = self._worker(namespace, pod)
        found = self._container(worker, container)
        if found.run is None or not found.is_running:
            raise BackendError(400, f"container {found.name} of pod {pod} is not running")
        if stdin and not found.spec.get("stdin"):
            raise BackendError(400, f"container {found.name} of pod {pod} was not started with stdin")
        return await connect(found.run.folder, patience=CONNECT_SECONDS)

    async def address(self, namespace: str, pod: str) -> str:
        return self._worker(namespace, pod).address

    def _worker(self, namespace: str, pod: str) -> PodWorker:
        worker = self._find(namespace, pod)
        if worker is None:
            raise BackendError(404, f'pod "{pod}" does not run on this machine')
        return worker

    def _container(self, worker: PodWorker, name: str) -> Container:
        by_name = {container.name: container for container in worker.containers}
        if name:
            if name not in by_name:
                raise BackendError(400, f"container {name} is not valid for pod {worker.name}")
            return by_name[name]
        default = worker.default_container
        return by_name.get(default) or worker.mains[0]

    def _run(self, worker: PodWorker, container: Container, *, previous: bool) -> Run:
        kept = container.runs()
        if previous:
            if len(kept) < 2:
                words = f"previous terminated container {container.name!r} in pod {worker.name!r} not found"
                raise BackendError(400, words)
            kept[-2].conclude()
            return kept[-2]
        if container.run is None:
            reason = container.refused[0] if container.refused else "PodInitializing"
            words = f'container "{container.name}" in pod "{worker.name}" is waiting to start: {reason}'
            raise BackendError(400, words)
        return container.run
