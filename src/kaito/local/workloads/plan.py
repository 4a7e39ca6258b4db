"""What a controller decided: actions as values. Planners return them, `writer` carries them out, tests compare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaito.api.meta import ObjectMeta
from kaito.kube.resources import Resource


@dataclass(frozen=True)
class Create:
    resource: Resource[Any]
    namespace: str
    body: dict[str, Any]
    if_absent: bool = False
    """An object of this name that is there already is as good."""


@dataclass(frozen=True)
class Delete:
    resource: Resource[Any]
    namespace: str
    name: str
    uid: str
    propagation: str = "Background"


@dataclass(frozen=True)
class Patch:
    """A merge patch, of the object itself or of its status."""

    resource: Resource[Any]
    namespace: str
    name: str
    body: dict[str, Any]
    subresource: str = ""


@dataclass(frozen=True)
class Announce:
    """An event about the object that is reconciled."""

    reason: str
    message: str
    type: str = "Normal"


Action = Create | Delete | Patch | Announce


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    """Seconds; None when only a change shall wake us."""


NOTHING = Plan()


def delete(resource: Resource[Any], metadata: ObjectMeta) -> Delete:
    return Delete(resource, metadata.namespace, metadata.name, metadata.uid)


def patch_status(
    resource: Resource[Any], metadata: ObjectMeta, old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[Patch, ...]:
    """The patch that makes the status `new`, or none when it is. A field of `new` that is None goes away."""
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    if not changed:
        return ()
    return (Patch(resource, metadata.namespace, metadata.name, {"status": changed}, "status"),)


def earliest(*seconds: float | None) -> float | None:
    """The first of several requeues."""
    return min((s for s in seconds if s is not None), default=None)
