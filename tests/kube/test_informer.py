from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kaito.api.core import ConfigMap
from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import CONFIG_MAPS, Resource
from tests.support.cluster import Cluster

LABELLED = {"metadata": {"labels": {"app": "a"}}}


class Log:
    """What an informer told, as (name, kind of change)."""

    def __init__(self, informer: Informer[Any]) -> None:
        self.calls: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        informer.listen(self._note)

    def _note(self, old: Any, new: Any) -> None:
        kind = "added" if old is None else "deleted" if new is None else "changed"
        self.calls.append(((new or old).metadata.name, kind))
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def running(informer: Informer[Any]) -> AsyncIterator[Log]:
    log = Log(informer)
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(10):
            await informer.wait_synced()
        yield log
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def body(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def informer(client: Client, **scope: Any) -> Informer[ConfigMap]:
    return Informer(client, CONFIG_MAPS, namespace="default", **scope)


def names(informer: Informer[ConfigMap]) -> set[str]:
    return {item.metadata.name for item in informer.store.values()} - {"kube-root-ca.crt"}


async def test_it_lists_and_follows(client: Client) -> None:
    await client.create(CONFIG_MAPS, body("a"), "default")
    following = informer(client)
    async with running(following) as log:
        assert names(following) == {"a"}
        await client.create(CONFIG_MAPS, body("b"), "default")
        await client.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, "default")
        await client.delete(CONFIG_MAPS, "b", "default")
        await log.until(lambda: ("b", "deleted") in log.calls)
        own = [call for call in log.calls if call[0] in "ab"]
        assert own == [("a", "added"), ("b", "added"), ("a", "changed"), ("b", "deleted")]


async def test_a_selector_limits_what_it_sees(client: Client) -> None:
    following = informer(client, labels="app=a")
    async with running(following) as log:
        await client.create(CONFIG_MAPS, body("other"), "default")
        await client.create(CONFIG_MAPS, {**LABELLED, "metadata": {"name": "a", "labels": {"app": "a"}}}, "default")
        await log.until(lambda: ("a", "added") in log.calls)
        await client.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"app": "b"}}}, "default")
        await log.until(lambda: ("a", "deleted") in log.calls)
        assert log.calls == [("a", "added"), ("a", "deleted")]


@pytest.mark.embedded
async def test_a_server_that_restarts_loses_and_repeats_nothing(cluster: Cluster, client: Client) -> None:
    for name in ("kept", "changed", "deleted"):
        await client.create(CONFIG_MAPS, body(name), "default")
    following = informer(client)
    async with running(following) as log:
        log.calls.clear()
        await asyncio.to_thread(cluster.restart)
        async with Client.connect(cluster.kubeconfig) as other:
            await other.delete(CONFIG_MAPS, "deleted", "default")
            await other.patch(CONFIG_MAPS, "changed", {"data": {"x": "1"}}, "default")
            await other.create(CONFIG_MAPS, body("new"), "default")
        await log.until(lambda: len(log.calls) >= 3)
        assert sorted(log.calls) == [("changed", "changed"), ("deleted", "deleted"), ("new", "added")]


@pytest.fixture
def forgetful(tmp_path: Path) -> Any:
    """A server that ends watches after a second and remembers few changes: whoever is away too long gets 410."""
    cluster = Cluster(tmp_path / "forgetful", history=5, watch_seconds=0.6)
    cluster.start()
    yield cluster
    cluster.stop()


async def test_a_watch_that_ends_goes_on_where_it_was(forgetful: Cluster) -> None:
    async with Client.connect(forgetful.kubeconfig) as client:
        client.calls.clear()
        following = informer(client)
        async with running(following) as log:
            for number in range(4):
                await client.create(CONFIG_MAPS, body(f"a{number}"), "default")
                await asyncio.sleep(0.6)  # Longer than a watch lives: each comes over another one.
            await log.until(lambda: ("a3", "added") in log.calls)
            assert sorted(c for c in log.calls if c[0].startswith("a")) == [(f"a{n}", "added") for n in range(4)]


async def test_when_the_version_is_gone_it_lists_again_and_tells_the_difference(forgetful: Cluster) -> None:
    async with Client.connect(forgetful.kubeconfig) as client:
        for name in ("kept", "changed", "deleted"):
            await client.create(CONFIG_MAPS, body(name), "default")
        following = informer(client)
        async with running(following):
            pass  # Listed once, then away.
        await client.delete(CONFIG_MAPS, "deleted", "default")
        await client.patch(CONFIG_MAPS, "changed", {"data": {"x": "1"}}, "default")
        for _ in range(20):
            await client.create(CONFIG_MAPS, body("passing"), "default")
            await client.delete(CONFIG_MAPS, "passing", "default")
        await client.create(CONFIG_MAPS, body("new"), "default")
        lists = client.calls["list"]
        async with running(following) as log:
            await log.until(lambda: len(log.calls) >= 3)
            assert client.calls["list"] > lists
            assert sorted(log.calls) == [("changed", "changed"), ("deleted", "deleted"), ("new", "added")]
            assert names(following) == {"kept", "changed", "new"}


class Strict(ConfigMap, frozen=True):
    # More than the API promises, so that some objects do not decode.
    data: dict[str, int] = {}  # type: ignore[assignment]  # noqa: RUF012 - a Struct copies its defaults


async def test_one_object_that_does_not_decode_is_left_out(client: Client) -> None:
    """ConfigMap values are texts: to a model that wants numbers every one with data is broken, the others are not."""
    await client.create(CONFIG_MAPS, body("broken", a="x"), "default")
    await client.create(CONFIG_MAPS, body("fine"), "default")
    strict = Resource("", "v1", "configmaps", "ConfigMap", True, Strict)
    following: Informer[Strict] = Informer(client, strict, namespace="default")
    async with running(following) as log:
        await client.create(CONFIG_MAPS, body("later-broken", a="x"), "default")
        await client.create(CONFIG_MAPS, body("later-fine"), "default")
        await log.until(lambda: ("later-fine", "added") in log.calls)
        assert {item.metadata.name for item in following.store.values()} == {"fine", "later-fine"}
        assert client.calls["undecodable"] >= 2
