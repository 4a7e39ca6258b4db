"""The step `serve`: listen at once, load the model, answer until SIGTERM, then finish what was begun."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from kaito.runtime.errors import StepError
from kaito.runtime.serve.app import Surface
from kaito.runtime.serve.engines.base import Lifecycle
from kaito.runtime.serve.engines.choose import choose_engine
from kaito.runtime.serve.engines.vllm.server import VllmServer
from kaito.runtime.serve.proxy import ProxySurface
from kaito.runtime.serve.settings import Settings, read_settings
from kaito.runtime.serve.state import ServerState
from kaito.runtime.step import Step, run_step

CLEANUP_TIMEOUT = 1.0  # seconds for connections that are still open once all is drained
ALIVE_INTERVAL = 1.0  # seconds between two looks at the engine


def run() -> int:
    """The step's exit code."""
    return run_step("serve", serve, listen=False)


def serve(step: Step) -> None:
    """Runs until SIGTERM or SIGINT. Raises InputError or StepError."""
    settings = read_settings(step)
    asyncio.run(_serve(step, settings))


async def _serve(step: Step, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = choose_engine(settings, step)
    state = ServerState()
    surface: Surface | ProxySurface
    if isinstance(engine, VllmServer):
        surface = ProxySurface(engine, settings, state, step.progress)
    else:
        surface = Surface(engine, settings, state, step.progress)
    # A client that goes away cancels its handler, and with it the sequence in the batch.
    runner = web.AppRunner(
        surface.application(), handler_cancellation=True, access_log=None, shutdown_timeout=CLEANUP_TIMEOUT
    )
    await runner.setup()
    try:
        site = await _listen(runner, settings)
        host, port = runner.addresses[0][:2]
        step.say("listening", host=host, port=port)
        await _until(stop, _load_and_watch(step, settings, engine, state, port))
        if state.phase == "ready":
            state.phase = "leaving"
            await asyncio.sleep(settings.linger)
        step.progress.running("draining: new requests are refused, those at work are finished")
        step.say("draining", active=state.active)
        await site.stop()
        if not await state.drain(settings.drain_timeout):
            step.say("drain timed out", active=state.active)
    finally:
        await engine.stop()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: Settings) -> web.TCPSite:
    site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        raise StepError(
            "PortUnavailable",
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}",
            "set KAITO_PORT to a free port, or 0 for any",
        ) from error
    return site


async def _load_and_watch(step: Step, settings: Settings, engine: Lifecycle, state: ServerState, port: int) -> None:
    step.progress.running(f"loading {settings.model_name}")
    began = step.clock()
    await engine.start()
    gc.freeze()  # what the libraries made stays; to look through it again would stop every stream for a moment
    seconds = step.clock() - began
    state.phase = "ready"
    step.progress.running("the model answers")
    names = [model.name for model in engine.models()]
    step.say("serving", models=names, port=port, loaded_in_seconds=round(seconds, 2))
    while engine.is_alive:
        await asyncio.sleep(ALIVE_INTERVAL)
    raise StepError("EngineStopped", "the engine stopped and cannot answer again; the log above says why")


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it fails or `stop` is set."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
