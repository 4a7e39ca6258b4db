"""An informer whose API server misbehaves for good comes back ever more slowly, and never dies of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from kaito.api.core import ConfigMap
from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import CONFIG_MAPS

GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
ADDED = {"type": "ADDED", "object": {"metadata": {"name": "a", "namespace": "default", "resourceVersion": "2"}}}
OBSERVED_SECONDS = 1.4
MOST_WATCHES = 4
"""Pauses are at least 0.1, 0.2, 0.4 and 0.8 s, so that a fifth watch comes after 1.5 s at the earliest."""


@asynccontextmanager
async def broken_server(watch: Callable[[], web.Response], folder: Path) -> AsyncIterator[Path]:
    """Lists well, and answers every watch with `watch()`. Gives the kubeconfig."""

    async def serve(request: web.BaseRequest) -> web.Response:
        if "watch" in request.query:
            return watch()
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    users = [{"name": "c", "user": {"token": "t"}}]
    kubeconfig.write_text(
        json.dumps({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"})
    )
    try:
        yield kubeconfig
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "watch",
    [
        pytest.param(lambda: web.Response(), id="ends at once"),
        pytest.param(lambda: web.Response(text=json.dumps(ADDED) + "\n"), id="one event, then ends"),
        pytest.param(lambda: web.Response(text=json.dumps(GONE) + "\n"), id="always too old"),
        pytest.param(lambda: web.Response(status=410, text=json.dumps(GONE["object"])), id="too old, as an answer"),
        pytest.param(lambda: web.Response(status=500, text="no"), id="an error"),
        pytest.param(lambda: web.Response(text='{"type": "ADDED", "obj'), id="half an event"),
        pytest.param(lambda: web.Response(text="hello\n"), id="no event at all"),
    ],
)
async def test_it_comes_back_ever_more_slowly(watch: Callable[[], web.Response], tmp_path: Path) -> None:
    async with broken_server(watch, tmp_path) as kubeconfig, Client.connect(kubeconfig) as client:
        following: Informer[ConfigMap] = Informer(client, CONFIG_MAPS)
        task = asyncio.create_task(following.run())
        await following.wait_synced()
        await asyncio.sleep(OBSERVED_SECONDS)
        assert not task.done()
        assert 2 <= client.calls["watch"] <= MOST_WATCHES
        assert client.calls["list"] <= MOST_WATCHES
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
