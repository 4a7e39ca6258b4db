"""Admission: what the server itself asks of a write, between its validation and the store.

Namespaces must exist and not be ending; Services get their addresses. Webhooks join here.
"""

from __future__ import annotations

from kaito.local.apiserver.addresses import ServiceAddresses
from kaito.local.apiserver.call import Call
from kaito.local.machinery import errors
from kaito.local.store.records import Key, Object
from kaito.local.store.store import Store

IMMORTAL_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class BuiltinAdmission:
    def __init__(self, store: Store, addresses: ServiceAddresses) -> None:
        self._store = store
        self._addresses = addresses

    async def mutate(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> Object | None:
        if operation == "CREATE" and call.namespace:
            self._check_namespace(call, obj)
        if obj is not None and call.resource.bucket == "services" and call.subresource != "status":
            self._addresses.assign(call, obj)
            return obj
        return None

    async def validate(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> None:
        if operation == "DELETE" and call.resource.bucket == "namespaces" and call.name in IMMORTAL_NAMESPACES:
            raise errors.forbidden("", "namespaces", call.name, "this namespace may not be deleted")

    def _check_namespace(self, call: Call, obj: Object | None) -> None:
        namespace = self._store.latest(Key("namespaces", "", call.namespace))
        if namespace is None:
            raise errors.not_found("", "namespaces", call.namespace)
        if namespace.value["metadata"].get("deletionTimestamp"):
            info = call.resource.info
            name = (obj or {}).get("metadata", {}).get("name", "")
            message = f"unable to create new content in namespace {call.namespace} because it is being terminated"
            raise errors.forbidden(info.group, info.plural, name, message)
