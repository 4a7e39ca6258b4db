"""Which kinds the server offers, from aggregated discovery: two requests whatever their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kaito.api.meta import Object
from kaito.kube.client import Client
from kaito.kube.errors import ApiError
from kaito.kube.resources import Resource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
NEEDED_VERBS = frozenset({"list", "watch", "delete"})


class _Kind(msgspec.Struct, frozen=True):
    kind: str = ""


class _Resource(msgspec.Struct, frozen=True):
    resource: str
    scope: str
    responseKind: _Kind = _Kind()
    verbs: list[str] = []


class _Version(msgspec.Struct, frozen=True):
    version: str
    resources: list[_Resource] = []


class DiscoveredGroup(msgspec.Struct, frozen=True):
    metadata: dict[str, Any] = {}
    versions: list[_Version] = []


class GroupList(msgspec.Struct, frozen=True):
    kind: str = ""
    items: list[DiscoveredGroup] = []


@dataclass(frozen=True)
class Served:
    """The kinds that can be listed, watched and deleted, read by their metadata alone."""

    resources: Mapping[tuple[str, str], Resource[Object]]
    """(group, plural) -> the kind at its preferred version."""
    kinds: Mapping[tuple[str, str], tuple[str, str]]
    """(apiVersion, kind), at every version -> (group, plural)."""

    def find(self, api_version: str, kind: str) -> Resource[Object] | None:
        return self.resources.get(self.kinds.get((api_version, kind), ("", "")))


async def discover(client: Client) -> Served:
    """Raises KubeError."""
    groups = []
    for path in ("api", "apis"):
        raw = await client.request("discovery", "GET", path, accept=AGGREGATED)
        groups += _decode(path, raw).items
    return served(groups)


def _decode(path: str, raw: bytes) -> GroupList:
    try:
        answer = msgspec.json.decode(raw, type=GroupList)
    except msgspec.DecodeError as error:
        raise ApiError(502, "Undecodable", f"/{path} is no discovery document: {error}") from error
    if answer.kind != "APIGroupDiscoveryList":
        raise ApiError(406, "NotAcceptable", f"/{path} answers {answer.kind}; aggregated discovery is needed")
    return answer


def served(groups: list[DiscoveredGroup]) -> Served:
    """What of the discovered kinds lives in the store. Events are left out: they own nothing and come in floods."""
    resources: dict[tuple[str, str], Resource[Object]] = {}
    kinds: dict[tuple[str, str], tuple[str, str]] = {}
    for group in groups:
        name = str(group.metadata.get("name") or "")
        for version in group.versions:
            for found in version.resources:
                kind = found.responseKind.kind
                if not set(found.verbs) >= NEEDED_VERBS or kind == "Event":
                    continue
                resource = Resource(name, version.version, found.resource, kind, found.scope == "Namespaced", Object)
                resources.setdefault((name, found.resource), resource)
                kinds[resource.api_version, kind] = (name, found.resource)
    return Served(resources, kinds)
