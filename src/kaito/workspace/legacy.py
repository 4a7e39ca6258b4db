"""Servers that an earlier KAITO made: they carry no label of ours, only their Workspace as the owner.

Nothing makes new ones, so they are looked for once, when the operator starts, and not watched.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from kaito.api.meta import ObjectMeta
from kaito.api.workspace import GROUP, LABEL_WORKSPACE
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.kube.resources import DEPLOYMENTS, STATEFUL_SETS, Resource
from kaito.kube.store import object_key
from kaito.workspace.kinds import Outline

log = logging.getLogger(__name__)

KINDS = tuple(
    Resource(kind.group, kind.version, kind.plural, kind.kind, kind.namespaced, Outline)
    for kind in (DEPLOYMENTS, STATEFUL_SETS)
)


@dataclass(frozen=True)
class Legacy:
    """One of them, and the Workspace's uid, so that a Workspace of a later life is not taken for its owner."""

    resource: Resource[Outline]
    namespace: str
    name: str
    uid: str
    owner_uid: str


class LegacyBook:
    """Those that are left, by Workspace."""

    def __init__(self) -> None:
        self._found: dict[str, list[Legacy]] = {}

    def of(self, key: str, uid: str) -> tuple[Legacy, ...]:
        return tuple(one for one in self._found.get(key, ()) if one.owner_uid == uid)

    def forget(self, uid: str) -> None:
        """It has been deleted."""
        for key, kept in list(self._found.items()):
            left = [one for one in kept if one.uid != uid]
            if left:
                self._found[key] = left
            else:
                del self._found[key]

    async def look(self, client: Client, namespace: str = "") -> None:
        """An API server that does not answer now is not waited for: what is overlooked is in the way, and said then."""
        for resource in KINDS:
            try:
                async for page in client.pages(resource, namespace, labels=f"!{LABEL_WORKSPACE}"):
                    for found, _ in page.items:
                        self._note(resource, found.metadata)
            except KubeError as error:
                log.warning("no look for an earlier KAITO's servers", extra={"error": str(error)})

    def _note(self, resource: Resource[Outline], metadata: ObjectMeta) -> None:
        for owner in metadata.ownerReferences:
            if owner.controller and owner.kind == "Workspace" and owner.apiVersion.startswith(f"{GROUP}/"):
                key = object_key(metadata.namespace, owner.name)
                legacy = Legacy(resource, metadata.namespace, metadata.name, metadata.uid, owner.uid)
                self._found.setdefault(key, []).append(legacy)
