"""Create and update: the one path on which every write of every kind goes.

address -> pruning -> defaults -> mutating admission -> validation -> validating admission -> ownership -> store.
A patch is an update whose new object is computed from the stored one; when admission waits and the object changes
meanwhile, it is computed again from what is there then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from kaito.local.apiserver import metadata as meta
from kaito.local.apiserver.call import Call
from kaito.local.machinery import errors
from kaito.local.machinery.apply import track
from kaito.local.machinery.kinds import ResourceInfo, ScalePaths
from kaito.local.machinery.schema import RULES_NOT_CHECKED, has_blocking
from kaito.local.store.errors import Stale
from kaito.local.store.records import Object, Record, encode_new, encode_object
from kaito.local.store.store import Store

ATTEMPTS = 10
BUILTIN_PATHS = ScalePaths(".spec.replicas", ".status.replicas")
Change = Callable[[Object], Object]
"""From the stored object, in the version of the request, to the wanted one. It may change its argument."""


class Admission(Protocol):
    """What stands between a valid request and the store."""

    async def mutate(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> Object | None:
        """The changed object; None when nobody changed it."""

    async def validate(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> None: ...


@dataclass(frozen=True)
class Written:
    record: Record
    created: bool = False


class Writer:
    def __init__(self, store: Store, admission: Admission, random_hex: Callable[[int], str]) -> None:
        self._store = store
        self._admission = admission
        self._random_hex = random_hex

    async def create(self, call: Call, obj: Object, *, applied: bool = False) -> Written:
        """`applied`: the body is an apply's, whose managedFields are already computed."""
        meta.check_type(call, obj)
        meta.check_address(call, obj)
        meta.prepare_create(call, obj, self._random_hex)
        info, strategy = call.resource.info, call.resource.strategy
        if not strategy.status_on_create and "status" in info.subresources:
            obj.pop("status", None)
        self._normalise(call, obj)
        meta.drop_empty(obj["metadata"])
        # Whoever sends a field owns it; what the server and admission add from here on belongs to nobody.
        managed = obj["metadata"].get("managedFields") if applied else self._owners(call, None, obj)
        strategy.prepare_create(obj)
        name = obj["metadata"].get("name") or ""
        mutated = await self._admission.mutate(call, "CREATE", obj, None)
        if mutated is not None:
            obj = mutated
            self._normalise(call, obj)
        self._validate(call, obj, None)
        await self._admission.validate(call, "CREATE", obj, None)
        _assign(obj["metadata"], "managedFields", managed or None)
        meta.drop_empty(obj["metadata"])
        key = call.key_of(name)
        if self._store.latest(key) is not None:
            raise errors.already_exists(info.group, info.plural, name)
        if call.options.dry_run:
            return Written(self._unsaved(call, obj, name), created=True)
        return Written(await self._store.put(key, stored(call, obj), 0), created=True)

    async def update(self, call: Call, change: Change, *, applied: bool = False) -> Written:
        info = call.resource.info
        for _ in range(ATTEMPTS):
            record = self._store.latest(call.key)
            if record is None:
                raise errors.not_found(info.group, info.plural, call.name)
            try:
                return await self._update_once(call, record, change, applied=applied)
            except Stale:
                continue  # another write came between; compute again from what is there now
        raise errors.conflict(info.group, info.plural, call.name)

    def exists(self, call: Call) -> bool:
        return self._store.latest(call.key) is not None

    def check_applied(self, call: Call, applied: Object) -> None:
        """An apply's body names what the URL names, and what it does not know is told before anything merges."""
        meta.check_type(call, applied)
        meta.check_address(call, applied)
        unknown = call.resource.info.schema.prune(applied)
        if unknown:
            info = call.resource.info
            faults = [f".{path}: field not declared in schema" for path in unknown]
            told = faults[0] if len(faults) == 1 else "errors:\n  " + "\n  ".join(faults)
            where = f"{call.namespace}/{call.name}; {info.api_version}, Kind={info.kind}"
            raise errors.bad_request(f"failed to create typed patch object ({where}): {told}")

    def check_review(self, call: Call, obj: Object) -> None:
        """A review is checked like any object, and then answered instead of stored."""
        meta.check_type(call, obj)
        self._prune(call, obj)
        call.resource.info.schema.default(obj)
        causes = call.resource.info.schema.validate(obj)
        if causes:
            raise errors.invalid(call.resource.info.group, call.resource.info.kind, "", causes)

    async def _update_once(self, call: Call, record: Record, change: Change, *, applied: bool) -> Written:
        old = served(call, record)
        obj = self._merged(call, change(served(call, record)), old)
        meta.drop_empty(obj["metadata"])
        managed = obj["metadata"].get("managedFields") if applied else self._owners(call, old, obj)
        if not call.subresource:
            call.resource.strategy.prepare_update(obj, old)
        mutated = await self._admission.mutate(call, "UPDATE", obj, old)
        if mutated is not None:
            obj = mutated
            self._normalise(call, obj)
            meta.prepare_update(call, obj, old)
        self._set_generation(call, obj, old)
        self._validate(call, obj, old)
        await self._admission.validate(call, "UPDATE", obj, old)
        _assign(obj["metadata"], "managedFields", managed or None)
        meta.drop_empty(obj["metadata"])
        if _is_same(obj, old):
            return Written(await self._settled(record))
        if call.options.dry_run:
            return Written(self._unsaved(call, obj, call.name))
        if is_finished(obj):
            return Written(await self._store.delete(call.key, record.revision, stored(call, obj)))
        return Written(await self._store.put(call.key, stored(call, obj), record.revision))

    async def _settled(self, record: Record) -> Record:
        """A write that changes nothing still answers only once what it read is on disk."""
        await self._store.settled(record.key)
        return record

    def _merged(self, call: Call, obj: Object, old: Object) -> Object:
        """The object that this subresource may write, the rest from the stored one."""
        info = call.resource.info
        meta.check_type(call, obj)
        meta.check_address(call, obj)
        self._check_version(call, obj, old)
        meta.prepare_update(call, obj, old)
        if call.subresource == "status":
            status, own = obj.get("status"), obj["metadata"]
            obj = {**old, "metadata": {**old["metadata"]}}
            for name in ("managedFields", *(("labels", "annotations") if info.group == "" else ())):
                if name in own:
                    obj["metadata"][name] = own[name]
            _assign(obj, "status", status)
        elif "status" in info.subresources and call.subresource != "binding":
            _assign(obj, "status", old.get("status"))
        self._normalise(call, obj)
        return obj

    def _check_version(self, call: Call, obj: Object, old: Object) -> None:
        info = call.resource.info
        sent = obj["metadata"].get("resourceVersion")
        if not sent and call.resource.strategy.requires_version_on_update:
            message = "Invalid value: 0: must be specified for an update"
            cause = errors.FieldCause("metadata.resourceVersion", message)
            raise errors.invalid(info.group, info.plural, call.name, [cause])
        if sent and sent != old["metadata"]["resourceVersion"]:
            raise errors.conflict(info.group, info.plural, call.name)

    def _normalise(self, call: Call, obj: Object) -> None:
        """Unknown fields go, defaults come."""
        self._prune(call, obj)
        schema = call.resource.info.schema
        schema.default(obj)
        if call.resource.crd:
            return  # checked with the metadata and the rules, so that all causes are told at once
        # A strategy reads what the schema promises, so the types are checked first.
        causes = schema.validate(obj)
        if causes:
            raise _schema_error(call, obj, causes)
        call.resource.strategy.default(obj)

    def _prune(self, call: Call, obj: Object) -> None:
        dropped = call.resource.info.schema.prune(obj)
        if dropped:
            self.report_fields(call, [f'unknown field "{path}"' for path in dropped])

    def report_fields(self, call: Call, found: list[str]) -> None:
        """Tells of unknown or duplicate fields as the request asked: an error, warnings, or nothing."""
        if not found or call.options.field_validation == "Ignore":
            return
        if call.options.field_validation == "Strict":
            raise errors.bad_request(strict_message(call, found))
        call.warnings.extend(text for text in found if text not in call.warnings)

    def _validate(self, call: Call, obj: Object, old: Object | None) -> None:
        info = call.resource.info
        causes = meta.validate(call, obj) if old is None or not call.subresource else []
        if call.resource.crd:
            causes += info.schema.validate(obj)
        blocked = has_blocking(causes)
        if blocked and call.resource.crd and info.schema.has_rules:
            causes.append(RULES_NOT_CHECKED)
        if not blocked and (call.subresource != "status" or rules_read_status(info)):
            causes += info.schema.rules(obj, old)
        if call.subresource not in ("status", "binding"):  # what these change, an update may not
            causes += call.resource.strategy.validate(obj, old)
        if causes:
            raise errors.invalid(info.group, info.kind, obj["metadata"].get("name") or "", causes)

    def _set_generation(self, call: Call, obj: Object, old: Object) -> None:
        before = old["metadata"].get("generation")
        if before is None or call.subresource in ("status", "binding"):
            return
        changed = call.resource.strategy.counted(obj) != call.resource.strategy.counted(old)
        if "status" not in call.resource.info.subresources:
            changed = changed or obj.get("status") != old.get("status")
        obj["metadata"]["generation"] = before + 1 if changed else before

    def _owners(self, call: Call, before: Object | None, after: Object) -> list[Object] | None:
        """Who owns what after the change, for `metadata.managedFields`."""
        if before is not None:
            known = before["metadata"].get("managedFields") or []
            after["metadata"].setdefault("managedFields", known)
            if call.subresource == "binding" or (call.subresource == "scale" and not owns_scale(call, known)):
                return known
        hidden = before is None and "status" in call.resource.info.subresources
        tracked = track(
            before,
            {name: part for name, part in after.items() if name != "status"} if hidden else after,
            manager=call.options.manager,
            schema=call.resource.info.schema,
            api_version=call.resource.info.api_version,
            subresource=call.subresource if call.subresource != "finalize" else "",
            now=call.timestamp,
        )
        managed: list[Object] | None = tracked["metadata"].get("managedFields")
        return managed

    def _unsaved(self, call: Call, obj: Object, name: str) -> Record:
        """What a dry run answers: the object as it would be, at the version that it has."""
        current = self._store.latest(call.key_of(name))
        revision = current.revision if current else 0
        value = stored(call, obj)
        raw = encode_object(value, revision) if current else encode_new(value)
        return Record(call.key_of(name), raw, revision, revision)


def served(call: Call, record: Record) -> Object:
    """A copy of the stored object in the version of the request."""
    obj = call.resource.strategy.from_storage(record.copy(), call.resource.info.group)
    obj["apiVersion"] = call.resource.info.api_version
    return obj


def stored(call: Call, obj: Object) -> Object:
    kept = call.resource.strategy.to_storage(obj)
    return {**kept, "apiVersion": call.resource.storage_api_version}


def is_finished(obj: Object) -> bool:
    """Deleted, said goodbye, and nobody holds it any more."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if obj["kind"] == "Namespace" and obj["apiVersion"] == "v1" and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def strict_message(call: Call, unknown: list[str]) -> str:
    info = call.resource.info
    text = f"strict decoding error: {', '.join(unknown)}"
    return f'{info.kind} in version "{info.version}" cannot be handled as a {info.kind}: {text}'


def _schema_error(call: Call, obj: Object, causes: list[errors.FieldCause]) -> errors.StatusError:
    """A value of the wrong type in a built-in kind is not even decoded (400); anything else is invalid (422)."""
    info = call.resource.info
    wrong = [cause for cause in causes if cause.reason == errors.FIELD_TYPE_INVALID]
    if wrong:
        told = f"{wrong[0].field}: {wrong[0].message}"
        return errors.bad_request(f'{info.kind} in version "{info.version}" cannot be handled as a {info.kind}: {told}')
    return errors.invalid(info.group, info.kind, obj["metadata"].get("name") or "", causes)


def owns_scale(call: Call, entries: list[Object]) -> bool:
    """Whether anybody owns the replicas: a scale of what nobody owns leaves it so, as in Kubernetes."""
    paths = call.resource.info.scale or BUILTIN_PATHS
    keys = [f"f:{part}" for part in paths.spec_replicas.lstrip(".").split(".")]
    for entry in entries:
        fields: Object | None = entry.get("fieldsV1")
        for key in keys:
            fields = fields.get(key) if fields is not None else None
        if fields is not None:
            return True
    return False


@cache
def rules_read_status(info: ResourceInfo) -> bool:
    """Whether a write of the status alone can change what a CEL rule says. Most CRDs' rules are about the rest."""
    raw = info.schema.raw
    own = [str(rule.get("rule")) for rule in raw.get("x-kubernetes-validations") or []]
    status = (raw.get("properties") or {}).get("status")
    return any("status" in rule for rule in own) or "x-kubernetes-validations" in str(status)


def _is_same(obj: Object, old: Object) -> bool:
    """Equal but for the times of managedFields, which a write that changes nothing must not move."""
    return _without_times(obj) == _without_times(old)


def _without_times(obj: Object) -> Object:
    metadata = obj["metadata"]
    fields = metadata.get("managedFields")
    if not fields:
        return obj
    timeless = [{name: value for name, value in entry.items() if name != "time"} for entry in fields]
    return {**obj, "metadata": {**metadata, "managedFields": timeless}}


def _assign(obj: Object, name: str, value: object) -> None:
    if value is None:
        obj.pop(name, None)
    else:
        obj[name] = value
