"""Waiting for the API to show something, woken by its watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import Resource

T = TypeVar("T")

PATIENCE = 20.0


async def wait_for(
    client: Client, resource: Resource[T], holds: Callable[[list[T]], Any], namespace: str = "default"
) -> list[T]:
    """The objects of a kind, once `holds` says so of them. Fails with what there was after `PATIENCE` seconds."""
    informer = Informer(client, resource, namespace=namespace if resource.namespaced else "")
    changed = asyncio.Event()
    informer.listen(lambda old, new: changed.set())
    following = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await informer.wait_synced()
            while not holds(informer.store.values()):
                changed.clear()
                await changed.wait()
        return informer.store.values()
    except TimeoutError:
        raise AssertionError(f"after {PATIENCE} s still {informer.store.values()}") from None
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def wait_for_one(
    client: Client, resource: Resource[T], name: str, holds: Callable[[T], Any], namespace: str = "default"
) -> T:
    def shown(objects: list[T]) -> bool:
        return any(obj.metadata.name == name and holds(obj) for obj in objects)  # type: ignore[attr-defined]  # models have metadata

    found = await wait_for(client, resource, shown, namespace)
    return next(obj for obj in found if obj.metadata.name == name)  # type: ignore[attr-defined]  # as above


async def wait_gone(client: Client, resource: Resource[Any], namespace: str = "default") -> None:
    await wait_for(client, resource, lambda objects: not objects, namespace)
