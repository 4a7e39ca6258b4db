"""What may not change in a Workspace that exists, as the webhook says it (CEL in the CRD says the simple part)."""

from __future__ import annotations

from collections.abc import Iterator

from kaito.api.faults import Fault
from kaito.api.validation import NodeMode
from kaito.api.workspace import Inference, Preset, Tuning, Workspace

REASON = "Immutable"
NEW_ONE = "Make a new Workspace instead."


def validate_update(old: Workspace, new: Workspace, node_mode: NodeMode) -> list[Fault]:
    """All changes from `old` to `new` that are not allowed. Empty: the update may go on."""
    return [
        *_toggled("inference", old.inference is not None, new.inference is not None),
        *_toggled("tuning", old.tuning is not None, new.tuning is not None),
        *_resource(old, new, node_mode),
        *(_inference(old.inference, new.inference) if old.inference and new.inference else ()),
        *(_tuning(old.tuning, new.tuning) if old.tuning and new.tuning else ()),
    ]


def _toggled(where: str, was: bool, is_: bool) -> Iterator[Fault]:
    if was != is_:
        yield Fault(where, "cannot be added later" if is_ else "cannot be removed", NEW_ONE, REASON)


def _resource(old: Workspace, new: Workspace, node_mode: NodeMode) -> Iterator[Fault]:
    was, now = old.resource, new.resource
    if was.labelSelector != now.labelSelector:
        yield Fault("resource.labelSelector", "cannot be changed", NEW_ONE, REASON)
    if was.partition != now.partition:
        yield Fault("resource.partition", "cannot be changed", NEW_ONE, REASON)
    if (was.count or 1) != (now.count or 1):
        yield Fault("resource.count", "cannot be changed", NEW_ONE, REASON)
    is_cleared = node_mode == "byo" and not now.instanceType
    if was.instanceType and was.instanceType != now.instanceType and not is_cleared:
        yield Fault("resource.instanceType", "cannot be changed once set", NEW_ONE, REASON)


def _inference(old: Inference, new: Inference) -> Iterator[Fault]:
    if (old.template is None) != (new.template is None):
        yield Fault("inference.template", "cannot be added or removed", NEW_ONE, REASON)
    yield from _preset("inference.preset", old.preset, new.preset)


def _tuning(old: Tuning, new: Tuning) -> Iterator[Fault]:
    yield from _preset("tuning.preset", old.preset, new.preset)
    if old.method.lower() != new.method.lower():
        yield Fault("tuning.method", "cannot be changed", NEW_ONE, REASON)
    name = old.input.name if old.input else ""
    if name and new.input and new.input.name != name:
        yield Fault("tuning.input.name", "cannot be changed once set", "Keep the name.", REASON)


def _preset(where: str, old: Preset | None, new: Preset | None) -> Iterator[Fault]:
    """Names are the same in any case; options may change, since credentials do."""
    was, now = (old.name.lower() if old else None), (new.name.lower() if new else None)
    if was != now:
        yield Fault(f"{where}.name" if old and new else where, "cannot be changed", NEW_ONE, REASON)
