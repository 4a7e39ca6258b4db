"""Custom resources come and go with their definitions.

A CRD is served before its own create is answered. When one is deleted its objects go first: the CRD carries a finalizer
until the last of them is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from kaito.local.apiserver.auth import ADMIN
from kaito.local.apiserver.call import Call
from kaito.local.apiserver.delete import Deleter
from kaito.local.apiserver.options import DeleteOptions, WriteOptions
from kaito.local.apiserver.resources import Resource, Resources
from kaito.local.apiserver.strategies.crd import CLEANUP_FINALIZER
from kaito.local.apiserver.write import Writer
from kaito.local.machinery.errors import StatusError
from kaito.local.store.records import Event, Object, Record
from kaito.local.store.store import Store

log = logging.getLogger(__name__)

BUCKET = "customresourcedefinitions.apiextensions.k8s.io"
OPTIONS = WriteOptions(manager="kaito-apiserver", field_validation="Ignore")


class CrdRegistry:
    def __init__(
        self, store: Store, resources: Resources, writer: Writer, deleter: Deleter, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._resources = resources
        self._writer = writer
        self._deleter = deleter
        self._clock = clock
        self._cleanups: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Serves what is stored, and whatever changes from now on."""
        for record in self._store.records(BUCKET):
            self._serve(record)
        self._store.listen(BUCKET, self._changed)

    async def close(self) -> None:
        for task in self._cleanups.values():
            task.cancel()
        await asyncio.gather(*self._cleanups.values(), return_exceptions=True)

    def _changed(self, event: Event) -> None:
        if event.type == "DELETED":
            self._resources.remove_crd(event.record.key.name)
        else:
            self._serve(event.record)

    def _serve(self, record: Record) -> None:
        self._resources.add_crd(record.value)
        metadata = record.value["metadata"]
        name = metadata["name"]
        leaving = metadata.get("deletionTimestamp") and CLEANUP_FINALIZER in (metadata.get("finalizers") or [])
        if leaving and name not in self._cleanups:
            task = self._cleanups[name] = asyncio.create_task(self._clean_up(record.value))
            task.add_done_callback(lambda _done: self._cleanups.pop(name, None))

    async def _clean_up(self, crd: Object) -> None:
        """Deletes every object of the kind, waits for the last finalizer, then lets the CRD go."""
        name, spec = crd["metadata"]["name"], crd["spec"]
        storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
        resource = self._resources.find(spec["group"], storage, spec["names"]["plural"])
        if resource is not None:
            await self._empty(resource)
        definition = self._resources.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert definition is not None
        call = Call(definition, "", name, "", OPTIONS, ADMIN, self._clock())
        try:
            await self._writer.update(call, _released)
        except StatusError as error:
            log.warning("the CustomResourceDefinition %s could not be let go: %s", name, error)

    async def _empty(self, resource: Resource) -> None:
        subscription = self._store.watch(resource.bucket, self._store.revision, lambda event: event.type == "DELETED")
        try:
            while records := self._store.records(resource.bucket):
                for record in records:
                    await self._delete(resource, record)
                if self._store.records(resource.bucket):
                    await subscription.batch(timeout=10.0)
        finally:
            self._store.unwatch(resource.bucket, subscription)

    async def _delete(self, resource: Resource, record: Record) -> None:
        key = record.key
        if record.value["metadata"].get("deletionTimestamp"):
            return
        call = Call(resource, key.namespace, key.name, "", OPTIONS, ADMIN, self._clock())
        try:
            await self._deleter.delete(call, DeleteOptions())
        except StatusError as error:
            log.info("%s %s is gone already, or kept: %s", key.bucket, key.name, error)


def _released(crd: Object) -> Object:
    finalizers = crd["metadata"].get("finalizers") or []
    crd["metadata"]["finalizers"] = [name for name in finalizers if name != CLEANUP_FINALIZER]
    return crd
