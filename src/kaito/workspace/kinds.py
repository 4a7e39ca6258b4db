"""The controller's own narrow readings of Kubernetes kinds: less than `kaito.api.core` reads, to keep the cache small.

Values of Secrets are dropped while they are decoded: the controller needs to know which keys there are, and the only
values that never leak are those that are not there.
"""

from __future__ import annotations

import sys

import msgspec

from kaito.api.meta import ObjectMeta
from kaito.kube.resources import Resource
from kaito.workspace.names import INFERENCE_CONFIG, TRAINING_CONFIG


class SecretOutline(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A Secret without its values."""

    metadata: ObjectMeta = ObjectMeta()
    type: str = ""
    data: dict[str, str] = {}

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "data", dict.fromkeys(self.data, ""))


class ConfigOutline(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A ConfigMap with only the values that a Workspace can mean; of the others it keeps the key."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}

    def __post_init__(self) -> None:
        # Most configs that we make are the same text, and so are kept once.
        kept = {
            key: sys.intern(text) if key in (TRAINING_CONFIG, INFERENCE_CONFIG) else ""
            for key, text in self.data.items()
        }
        msgspec.structs.force_setattr(self, "data", kept)


class Outline(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Of a kind that is only written: its metadata is enough."""

    metadata: ObjectMeta = ObjectMeta()


class InvolvedObject(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class EventOutline(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An Event: what about, and in which words."""

    metadata: ObjectMeta = ObjectMeta()
    involvedObject: InvolvedObject = InvolvedObject()
    reason: str = ""
    message: str = ""
    lastTimestamp: str | None = None


EVENT_OUTLINES = Resource("", "v1", "events", "Event", True, EventOutline)
SERVICE_OUTLINES = Resource("", "v1", "services", "Service", True, Outline)
SECRET_OUTLINES = Resource("", "v1", "secrets", "Secret", True, SecretOutline)
CONFIG_OUTLINES = Resource("", "v1", "configmaps", "ConfigMap", True, ConfigOutline)
