from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.api.core import ConfigMap
from kaito.kube.applier import ANNOTATION_APPLIED, Applier, intent_hash
from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import CONFIG_MAPS


def intent(**data: str) -> dict[str, Any]:
    return {"metadata": {"name": "c", "labels": {"app": "a"}}, "data": data}


class Followed:
    """A running informer, and a way to wait until it shows the newest version."""

    def __init__(self, client: Client) -> None:
        self.informer: Informer[ConfigMap] = Informer(client, CONFIG_MAPS, namespace="default", fingerprints=True)
        self.store = self.informer.store
        self._changed = asyncio.Event()
        self.informer.listen(lambda old, new: self._changed.set())

    async def caught_up(self, version: str) -> None:
        async with asyncio.timeout(10):
            while (cached := self.store.get("default/c")) is None or cached.metadata.resourceVersion != version:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def followed(client: Client) -> AsyncIterator[Followed]:
    world = Followed(client)
    task = asyncio.create_task(world.informer.run())
    try:
        await world.informer.wait_synced()
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def write(applier: Applier, world: Followed, body: dict[str, Any]) -> bool:
    return await applier.write(CONFIG_MAPS, world.store, body, "default")


async def version(client: Client) -> str:
    return (await client.get(CONFIG_MAPS, "c", "default")).metadata.resourceVersion


async def test_it_writes_what_is_new_or_changed_and_nothing_else(client: Client) -> None:
    applier = Applier(client)
    async with followed(client) as world:
        assert await write(applier, world, intent(a="1"))
        assert not await write(applier, world, intent(a="1"))  # Before the cache has it.
        await world.caught_up(await version(client))
        assert not await write(applier, world, intent(a="1"))
        assert await write(applier, world, intent(a="2"))
        await world.caught_up(await version(client))
        assert not await write(applier, world, intent(a="2"))
        assert client.calls["apply"] == 2
        assert (await client.get(CONFIG_MAPS, "c", "default")).data == {"a": "2"}


async def test_what_another_hand_changed_is_set_right(client: Client) -> None:
    applier = Applier(client)
    async with followed(client) as world:
        await write(applier, world, intent(a="1"))
        await client.patch(CONFIG_MAPS, "c", {"data": {"a": "other"}}, "default")
        await world.caught_up(await version(client))
        assert await write(applier, world, intent(a="1"))
        assert (await client.get(CONFIG_MAPS, "c", "default")).data == {"a": "1"}


async def test_a_restarted_controller_writes_nothing(client: Client) -> None:
    async with followed(client) as world:
        await write(Applier(client), world, intent(a="1"))
    async with followed(client) as world:
        assert not await write(Applier(client), world, intent(a="1"))
    assert client.calls["apply"] == 1


async def test_what_was_deleted_is_made_again(client: Client) -> None:
    applier = Applier(client)
    async with followed(client) as world:
        await write(applier, world, intent(a="1"))
        await world.caught_up(await version(client))
        await client.delete(CONFIG_MAPS, "c", "default")
        async with asyncio.timeout(10):
            while world.store.get("default/c") is not None:
                world._changed.clear()
                await world._changed.wait()
        assert await write(applier, world, intent(a="1"))


async def test_a_field_that_is_dropped_from_the_intent_goes(client: Client) -> None:
    applier = Applier(client)
    async with followed(client) as world:
        await write(applier, world, intent(a="1", b="2"))
        await write(applier, world, intent(a="1"))
    found = await client.get(CONFIG_MAPS, "c", "default")
    assert found.data == {"a": "1"}
    assert found.metadata.annotations[ANNOTATION_APPLIED] == intent_hash(intent(a="1"))


@pytest.mark.parametrize("other", [intent(a="2"), intent(), {**intent(a="1"), "metadata": {"name": "d"}}])
def test_the_hash_tells_intents_apart(other: dict[str, Any]) -> None:
    assert intent_hash(intent(a="1")) != intent_hash(other)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_the_order_of_keys_does_not_matter(data: dict[str, str]) -> None:
    assert intent_hash({"data": data}) == intent_hash({"data": dict(reversed(data.items()))})
