"""The shape of a strategy, and what holds for most kinds.

A strategy changes the object in place before it is validated. It sees whole objects in the version of the request and
knows nothing of HTTP, patches or the store.
"""

from __future__ import annotations

from typing import Any

from kaito.local.machinery.errors import FieldCause, compact
from kaito.local.store.records import Object

FieldCauses = list[FieldCause]


def child(parent: Object, name: str) -> Object:
    """The object under `name`, made when absent (a null counts as absent)."""
    value = parent.get(name)
    if value is None:
        value = parent[name] = {}
    found: Object = value
    return found


def set_default(parent: Object, name: str, value: Any) -> None:
    """Kubernetes treats null as absent."""
    if parent.get(name) is None:
        parent[name] = value


def immutable(field: str, new: object, old: object) -> FieldCauses:
    return [] if new == old else [FieldCause(field, f"Invalid value: {compact(new)}: field is immutable")]


class Strategy:
    """A built-in kind without rules of its own."""

    requires_version_on_update = False
    """Whether an update must carry a resourceVersion (custom resources)."""
    deletes_return_object = False
    default_propagation = ""
    """What becomes of the dependents when a delete does not say; empty for the collector's usual way."""
    lingers = False
    """Whether a delete may take its time (`grace_seconds`)."""
    status_on_create = False
    """Whether a create keeps the status that it carries."""
    has_generation = False

    def default(self, obj: Object) -> None:
        """Fills in what Kubernetes fills in on every read and write of the kind."""

    def prepare_create(self, obj: Object) -> None:
        """After the defaults: what a create sets whatever the client sent."""

    def prepare_update(self, obj: Object, old: Object) -> None:
        """After the defaults, for writes of the main resource."""

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        return []

    def counted(self, obj: Object) -> Object:
        """The part of an object whose changes its generation counts."""
        return {name: value for name, value in obj.items() if name not in ("metadata", "status")}

    def grace_seconds(self, obj: Object, asked: int | None) -> int:
        """Seconds between the delete and the end; 0 removes at once."""
        return 0

    def deletion_finalizers(self) -> tuple[str, ...]:
        """Finalizers that a delete adds, for work that comes before the end."""
        return ()

    def to_storage(self, obj: Object) -> Object:
        """From the version of the request to the one that is stored; `apiVersion` is set by the caller."""
        return obj

    def from_storage(self, obj: Object, group: str) -> Object:
        return obj

    def converts(self, group: str) -> bool:
        """Whether the stored form differs from the group's in more than `apiVersion`."""
        return False


class GenerationStrategy(Strategy):
    """A kind whose spec is counted: its generation grows with every change outside of metadata and status."""

    has_generation = True


class CustomStrategy(GenerationStrategy):
    """A kind that a CustomResourceDefinition made."""

    requires_version_on_update = True
