"""One informer per kind, shared by all controllers of this room, started when the first of them asks.

Every store has the same three indexes: `controller` (uid of the controlling owner), `owner` (uid of any owner) and
`namespace`; pods also have `node`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from kaito.kube.client import Client
from kaito.kube.informer import Informer
from kaito.kube.resources import Resource
from kaito.kube.store import IndexFunction
from kaito.local.workloads.objects import controller_uid
from kaito.local.workloads.resources import PODS

T = TypeVar("T")


def _controller(obj: Any) -> Iterable[str]:
    uid = controller_uid(obj.metadata)
    return (uid,) if uid else ()


def _owners(obj: Any) -> Iterable[str]:
    return {owner.uid for owner in obj.metadata.ownerReferences}


def _namespace(obj: Any) -> Iterable[str]:
    return (obj.metadata.namespace,)


def _node(pod: Any) -> Iterable[str]:
    return (pod.spec.get("nodeName") or "",)


INDEXES: Mapping[str, IndexFunction] = {"controller": _controller, "owner": _owners, "namespace": _namespace}


class Informers:
    """Informers by kind. They run in `group`, until it ends or `stop` is called for the kind."""

    def __init__(self, client: Client, group: asyncio.TaskGroup) -> None:
        self._client = client
        self._group = group
        self._informers: dict[tuple[str, str], tuple[Informer[Any], asyncio.Task[None]]] = {}

    def of(self, resource: Resource[T]) -> Informer[T]:
        """The informer of a kind. The model is that of the first who asks: ask with the richer one first."""
        known = self._informers.get((resource.group, resource.plural))
        if known is not None:
            return known[0]
        indexes = {**INDEXES, "node": _node} if resource is PODS else INDEXES
        informer = Informer(self._client, resource, indexes=indexes)
        task = self._group.create_task(informer.run(), name=f"informer {resource.plural}")
        self._informers[resource.group, resource.plural] = (informer, task)
        return informer

    def stop(self, group: str, plural: str) -> None:
        """End the informer of a kind that is no longer served."""
        _, task = self._informers.pop((group, plural), (None, None))
        if task is not None:
            task.cancel()
