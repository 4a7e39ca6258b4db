"""Delete: preconditions, propagation, finalizers and grace.

An object that somebody still holds (a finalizer, a grace period, a namespace's content) is only marked with its
deletion time; the update that takes the last hold away removes it (`write.is_finished`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kaito.local.apiserver.call import Call, timestamp
from kaito.local.apiserver.options import DeleteOptions
from kaito.local.apiserver.read import Selection
from kaito.local.apiserver.write import Admission, Written, is_finished, served, stored
from kaito.local.machinery import errors
from kaito.local.store.errors import Stale
from kaito.local.store.records import Object, Record, encode_object
from kaito.local.store.store import Store

ATTEMPTS = 10
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Deleter:
    def __init__(self, store: Store, admission: Admission) -> None:
        self._store = store
        self._admission = admission

    async def delete(self, call: Call, options: DeleteOptions) -> tuple[Written, bool]:
        """The object's last or marked state, and whether it is gone."""
        info = call.resource.info
        for _ in range(ATTEMPTS):
            record = self._store.latest(call.key)
            if record is None:
                raise errors.not_found(info.group, info.plural, call.name)
            old = served(call, record)
            _check_preconditions(call, options, old)
            await self._admission.validate(call, "DELETE", None, old)
            try:
                return await self._delete_once(call, options, record, old)
            except Stale:
                continue
        raise errors.conflict(info.group, info.plural, call.name)

    async def delete_selected(self, call: Call, options: DeleteOptions, selection: Selection) -> list[Record]:
        """Every object of the selection; one that somebody else deletes meanwhile is not an error."""
        deleted: list[Record] = []
        for record in self._store.records(call.resource.bucket, call.namespace):
            if not selection.matches(record):
                continue
            one = replace(call, namespace=record.key.namespace, name=record.key.name)
            try:
                written, _ = await self.delete(one, options)
            except errors.StatusError as error:
                if error.code != 404:
                    raise
            else:
                deleted.append(written.record)
        return deleted

    async def _delete_once(
        self, call: Call, options: DeleteOptions, record: Record, old: Object
    ) -> tuple[Written, bool]:
        marked = self._marked(call, options, served(call, record))
        if is_finished(marked):
            if options.dry_run:
                return Written(record), True
            # A kind that may linger ends as it was marked; any other just goes.
            last = stored(call, marked) if call.resource.strategy.lingers else None
            return Written(await self._store.delete(call.key, record.revision, last)), True
        if marked == old:
            await self._store.settled(call.key)
            return Written(record), False
        value = stored(call, marked)
        if options.dry_run:
            return Written(Record(call.key, encode_object(value, record.revision), record.revision, 0)), False
        return Written(await self._store.put(call.key, value, record.revision)), False

    def _marked(self, call: Call, options: DeleteOptions, obj: Object) -> Object:
        """With its deletion time, its grace and the finalizers that the propagation policy asks for."""
        metadata = obj["metadata"]
        propagation = options.propagation or _usual_propagation(call, metadata)
        finalizers = [name for name in metadata.get("finalizers") or [] if not _replaced(name, propagation)]
        wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(propagation)
        if wanted and wanted not in finalizers:
            finalizers.append(wanted)
        if not metadata.get("deletionTimestamp"):
            own = call.resource.strategy.deletion_finalizers()
            finalizers += [name for name in own if name not in finalizers]
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
        grace = call.resource.strategy.grace_seconds(obj, options.grace_seconds)
        running = metadata.get("deletionGracePeriodSeconds")
        if not metadata.get("deletionTimestamp") or (running is not None and grace < running):
            if "generation" in metadata and not metadata.get("deletionTimestamp"):
                metadata["generation"] += 1
            metadata["deletionTimestamp"] = timestamp(call.now + timedelta(seconds=grace))
            if call.resource.bucket != "namespaces":
                metadata["deletionGracePeriodSeconds"] = grace
        if call.resource.bucket == "namespaces":
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return obj


def _usual_propagation(call: Call, metadata: Object) -> str:
    """What the kind does with its dependents when nobody says; told, where that may surprise."""
    usual = call.resource.strategy.default_propagation
    if not usual or metadata.get("deletionTimestamp"):
        return ""
    call.warnings.append(
        f"child pods are preserved by default when {call.resource.info.plural} are deleted; set "
        "propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"
    )
    return usual


def _replaced(finalizer: str, propagation: str) -> bool:
    """A later delete may choose the other of the two collectors' finalizers; naming no policy keeps what is there."""
    return bool(propagation) and finalizer in (FOREGROUND, ORPHAN)


def _check_preconditions(call: Call, options: DeleteOptions, old: Object) -> None:
    info, metadata = call.resource.info, old["metadata"]
    if options.uid and options.uid != metadata["uid"]:
        message = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise errors.conflict(info.group, info.kind, call.name, message)
    version = metadata["resourceVersion"]
    if options.resource_version and options.resource_version != version:
        message = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion "
            f"in record ({version}). The object might have been modified"
        )
        raise errors.conflict(info.group, info.kind, call.name, message)
