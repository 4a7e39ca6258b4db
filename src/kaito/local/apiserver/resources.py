"""Which kinds are served: the built-in ones and one per version of every established CRD.

One path for all of them: a `Resource` is what the machinery knows (`info`), where its objects are kept (`bucket`) and
what is particular about writing it (`strategy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kaito.local.apiserver.strategies import strategy_for
from kaito.local.apiserver.strategies.base import Strategy
from kaito.local.machinery.kinds import BUILTIN, ResourceInfo, from_crd
from kaito.local.store.records import Object


@dataclass(frozen=True)
class Resource:
    info: ResourceInfo
    bucket: str
    strategy: Strategy

    @property
    def crd(self) -> str:
        """Name of the CustomResourceDefinition behind it; empty for a built-in kind."""
        return self.info.crd

    @property
    def storage_api_version(self) -> str:
        group, version = self.info.group, self.info.storage_version
        return f"{group}/{version}" if group else version

    @property
    def qualified(self) -> str:
        return f"{self.info.plural}.{self.info.group}" if self.info.group else self.info.plural


class Resources:
    """The table of what is served. `generation` grows with every change, for caches of discovery and OpenAPI."""

    def __init__(self) -> None:
        self._served: dict[tuple[str, str, str], Resource] = {}
        self.generation = 0
        for info in BUILTIN:
            self._served[info.group, info.version, info.plural] = Resource(info, _bucket(info), strategy_for(info))

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._served.get((group, version, plural))

    def serves(self, group: str, version: str) -> bool:
        """Whether any kind of this version of the group is served."""
        return any((info.group, info.version) == (group, version) for info in self.infos())

    def find_kind(self, group: str, version: str, kind: str) -> Resource | None:
        for resource in self._served.values():
            info = resource.info
            if info.kind == kind and info.group == group and info.version == version:
                return resource
        return None

    def all(self) -> Iterable[Resource]:
        return self._served.values()

    def infos(self) -> list[ResourceInfo]:
        return [resource.info for resource in self._served.values()]

    def add_crd(self, crd: Object) -> None:
        """Serves the CRD's versions in place of those that it served before."""
        self._drop(crd["metadata"]["name"])
        for info in from_crd(crd):
            self._served[info.group, info.version, info.plural] = Resource(info, _bucket(info), strategy_for(info))
        self.generation += 1

    def remove_crd(self, name: str) -> None:
        self._drop(name)
        self.generation += 1

    def _drop(self, name: str) -> None:
        for key in [key for key, resource in self._served.items() if resource.crd == name]:
            del self._served[key]


def _bucket(info: ResourceInfo) -> str:
    if info.kind == "Event" and info.group == "events.k8s.io":
        return "events"  # one kind in two groups: the same objects
    return f"{info.plural}.{info.group}" if info.group else info.plural
