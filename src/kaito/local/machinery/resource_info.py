"""What the API server knows of one version of one kind: its names, its scope, its schema.

The rest is one generic path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from kaito.local.machinery.schema import Schema

Json = dict[str, Any]

ALL_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY: Final = ("create",)


@dataclass(frozen=True)
class Column:
    """A printer column. `priority` above 0 shows only with `-o wide`. `json_path` is empty for built-in printers."""

    name: str
    type: str
    description: str = ""
    format: str = ""
    priority: int = 0
    json_path: str = ""

    def to_definition(self) -> Json:
        """The column as a metav1.Table declares it."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True)
class ScalePaths:
    """Where a custom resource keeps what its scale subresource shows; paths such as `.spec.replicas`."""

    spec_replicas: str
    status_replicas: str
    label_selector: str = ""


@dataclass(frozen=True, eq=False)
class ResourceInfo:
    """One version of one kind. Compared by identity: two reads of one CRD are two definitions."""

    group: str
    version: str
    kind: str
    list_kind: str
    plural: str
    singular: str
    namespaced: bool
    schema: Schema = field(repr=False)
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    storage_version: str = ""
    columns: tuple[Column, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    definition: str = ""  # the OpenAPI name, such as io.k8s.api.core.v1.Pod
    crd: str = ""  # the name of the CRD that defines this, empty for built-in kinds
    scale: ScalePaths | None = None
    selectable_fields: tuple[str, ...] = ()
    deprecation_warning: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def gvk(self) -> tuple[str, str, str]:
        return self.group, self.version, self.kind

    @property
    def resource(self) -> str:
        """The name in messages: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural
