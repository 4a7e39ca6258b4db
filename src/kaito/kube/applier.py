"""Server-side apply that writes only what changed.

The intent's hash travels as an annotation of the object, so that a restarted controller knows without a write that the
object is what it wants. While the controller runs it also remembers what the object's spec looked like after its own
write: a spec that differs since then was changed by somebody else, and is applied again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from kaito.kube.client import Client
from kaito.kube.resources import Resource
from kaito.kube.store import Store, fingerprint, object_key

T = TypeVar("T")

ANNOTATION_APPLIED = "kaito.sh/applied-hash"


def intent_hash(body: Mapping[str, Any]) -> str:
    """A digest of an intent; the order of keys does not matter."""
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()[:16]


class Applier:
    """Applies intents of one controller. `write` returns whether it wrote."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._after_write: dict[tuple[str, str], str] = {}
        self._written: dict[tuple[str, str], str] = {}
        """The hash of the last intent written, which counts until the cache shows it."""

    async def write(self, resource: Resource[T], store: Store[T], body: Mapping[str, Any], namespace: str = "") -> bool:
        """Apply `body` unless the cached object already is what it says. The store must keep fingerprints."""
        key = object_key(namespace, body["metadata"]["name"])
        wanted = intent_hash(body)
        if self._is_current(resource, store, key, wanted):
            return False
        annotations = {**body["metadata"].get("annotations", {}), ANNOTATION_APPLIED: wanted}
        intent = {**body, "metadata": {**body["metadata"], "annotations": annotations}}
        applied, raw = await self._client.apply(resource, intent, namespace)
        store.observe_own_write(key, applied.metadata.resourceVersion)  # type: ignore[attr-defined]  # T has metadata
        self._after_write[resource.plural, key] = fingerprint(raw)
        self._written[resource.plural, key] = wanted
        return True

    def _is_current(self, resource: Resource[T], store: Store[T], key: str, wanted: str) -> bool:
        if store.is_behind(key):
            return self._written.get((resource.plural, key)) == wanted
        cached: Any = store.get(key)
        if cached is None or cached.metadata.annotations.get(ANNOTATION_APPLIED) != wanted:
            return False
        seen = store.fingerprint(key)
        return self._after_write.setdefault((resource.plural, key), seen) == seen
