"""The control plane of one machine in one event loop.

The API comes first and alone, so that it answers at once; the rest is imported and started while clients may already
talk to it. Every part is a task of one group: a part that ends, for whatever reason, ends the whole with a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaito.api.conditions import timestamp
from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.server import ApiServer
from kaito.local.store.errors import Locked
from kaito.local.up.child import Child
from kaito.local.up.config import DATA_NETWORK, Running, UpConfig, settled_holder, write_running
from kaito.local.up.errors import FolderTaken, PartFailed, UpError
from kaito.local.up.networks import claim_networks
from kaito.local.up.ports import bind_error, remember_ports, with_remembered_ports

if TYPE_CHECKING:
    from kaito.kube.client import Client
    from kaito.local.agent import NodeAgent
    from kaito.local.registry import Registry

log = logging.getLogger(__name__)

CONTROLLER_SECONDS = 30.0
PROGRAMS_FILE = "programs.json"


class Machine:
    """One run of a control plane on `config.home`."""

    def __init__(self, config: UpConfig) -> None:
        self._config = config = with_remembered_ports(config)
        self._networks = claim_networks(config.home)
        self._server = ApiServer(
            ServerConfig(home=config.home, port=config.port, service_network=self._networks.services)
        )
        self._stop = asyncio.Event()
        self._agent: NodeAgent | None = None
        self._controllers: list[asyncio.Task[None]] = []

    async def run(self, on_ready: Callable[[Running], None]) -> None:
        """Until SIGTERM or SIGINT. Raises UpError."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._networks.release)
            await self._start_api(stack)
            self._networks.remember(self._config.home)
            try:
                await self._run_parts(stack, on_ready)
            except* UpError as errors:
                raise _first(errors) from errors
            finally:
                with contextlib.suppress(FileNotFoundError):
                    (self._config.home / "up.json").unlink()

    async def _start_api(self, stack: contextlib.AsyncExitStack) -> None:
        config = self._config
        settled_holder(config.home)
        try:
            await self._server.start()
        except Locked as error:
            words = f"{config.home} is in use by another control plane (pid {error.pid})"
            raise FolderTaken(f"{words}; stop it with `kaito down`, or use another folder (KAITO_HOME)") from error
        except OSError as error:
            raise bind_error(error, config.port, "the API", "--port") from error
        stack.push_async_callback(self._server.stop)

    async def _run_parts(self, stack: contextlib.AsyncExitStack, on_ready: Callable[[Running], None]) -> None:
        from kaito.kube.client import Client

        client = await stack.enter_async_context(
            Client.connect(self._config.kubeconfig, field_manager="kaito-local", context=None)
        )
        registry = await self._start_registry(stack)
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(_supervised(name, part), name=name) for name, part in self._parts(client)]
            start = group.create_task(self._become_ready(client, registry, group, on_ready), name="start")
            await self._stop.wait()
            await self._stop_parts([start, *parts])

    async def _become_ready(
        self, client: Client, registry: Registry, group: asyncio.TaskGroup, on_ready: Callable[[Running], None]
    ) -> None:
        await self._bring_up(client, registry, group)
        running = Running(
            self._server.url, self._config.kubeconfig, registry.port, os.getpid(), timestamp(datetime.now(UTC))
        )
        write_running(self._config.home, running)
        remember_ports(self._config.home, self._server.port, registry.port)
        on_ready(running)
        log.info("ready", extra={"url": running.url})

    def _parts(self, client: Client) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        from kaito.local.agent import AgentConfig, NodeAgent
        from kaito.local.agent.engines import ENGINE_VARIABLE, Engines
        from kaito.local.proxy import ServiceProxy
        from kaito.local.scheduler import run_scheduler
        from kaito.local.workloads import run_workloads

        programs = read_programs(self._config.home / PROGRAMS_FILE)
        agent_config = AgentConfig(
            home=self._config.home,
            host_programs=programs,
            engines=Engines(os.environ.get(ENGINE_VARIABLE) or "auto"),
            pod_network=self._networks.pods,
        )
        agent = self._agent = NodeAgent(client, agent_config)
        self._server.set_backend(agent.backend)
        return [
            ("node agent", agent.run()),
            ("workload controllers", run_workloads(client)),
            ("scheduler", run_scheduler(client)),
            ("service proxy", ServiceProxy(client).run()),
        ]

    async def _start_registry(self, stack: contextlib.AsyncExitStack) -> Registry:
        from kaito.local.registry import Registry

        config = self._config
        registry = Registry(config.home / "registry", port=config.registry_port, data_dir=config.home / "data")
        try:
            await registry.start()
        except OSError as error:
            raise bind_error(error, config.registry_port, "the registry", "--registry-port") from error
        stack.push_async_callback(registry.stop)
        return registry

    async def _bring_up(self, client: Client, registry: Registry, group: asyncio.TaskGroup) -> None:
        """What must be there before we say that we are ready."""
        from kaito.kube.errors import KubeError
        from kaito.local.up import seed

        try:
            await seed.apply_crds(client)
            await seed.apply_registry_secret(client, registry)
        except (KubeError, TimeoutError) as error:
            raise PartFailed(f"the API did not take what the control plane begins with: {error}") from error
        await asyncio.to_thread(seed.copy_samples, self._config.home / "data")
        children = self._children() if self._config.controllers else []
        self._controllers = [group.create_task(child.run(), name=child.name) for child in children]
        for child in children:
            if not await child.wait_ready(CONTROLLER_SECONDS):
                raise PartFailed(f"the {child.name} did not start: {child.last_line()}")

    def _children(self) -> list[Child]:
        config = self._config
        config.logs.mkdir(parents=True, exist_ok=True)
        kaito = [sys.executable, "-m", "kaito.cli.main"]
        common = ["--kubeconfig", str(config.kubeconfig)]
        commands = {
            "operator": [
                *("--nodes", "gpu-provisioner", "--allow-data-from", DATA_NETWORK),
                *("--progress-interval", f"{config.progress_interval:g}"),
                *("--webhook-port", str(free_port()), "--webhook-service=", "--lease-namespace", "kube-system"),
                *("--host", "127.0.0.1"),
            ],
            "provisioner": ["--provider", "local"],
        }
        children = []
        for name, options in commands.items():
            port = free_port()
            command = [*kaito, name, *options, *common, "--health-port", str(port)]
            log_file = config.logs / f"{name}.log"
            children.append(Child(name, command, log_file=log_file, environ=os.environ, health_port=port))
        return children

    async def _stop_parts(self, parts: list[asyncio.Task[None]]) -> None:
        """Controllers first, so that nothing reacts to pods that stop; then the pods; then what serves them."""
        log.info("stopping")
        await _cancel(self._controllers)
        if self._agent is not None:
            await self._agent.stop_pods(self._config.stop_seconds)
        await _cancel(parts)


async def _supervised(name: str, part: Coroutine[Any, Any, None]) -> None:
    """A part that ends, ends all: with its error, or with the plain fact."""
    try:
        await part
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        log.exception("a part of the control plane failed", extra={"part": name})
        raise PartFailed(f"the {name} failed: {_root(error)}") from error
    raise PartFailed(f"the {name} ended by itself")


def _root(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _first(errors: BaseExceptionGroup[UpError]) -> UpError:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, UpError) else PartFailed(str(first))


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_programs(file: Path) -> dict[str, str]:
    """Images that stand for programs of this machine: the defaults, unless the file says otherwise. Raises UpError.

    The file is written on the first start, so that people see what they may change.
    """
    from kaito.local.agent.config import HOST_PROGRAMS

    if not file.exists():
        file.write_text(json.dumps(HOST_PROGRAMS, indent=1) + "\n", encoding="utf-8")
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise UpError(f"{file} is not JSON: {error}; mend it, or delete it to get the defaults back") from error
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UpError(f"{file} must be a JSON object of image names and program names; delete it to get the defaults")
    return content
