"""One write as the verbs see it: which object, who asks, with what options."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from kaito.local.apiserver.options import WriteOptions
from kaito.local.apiserver.resources import Resource
from kaito.local.store.records import Key


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""

    @property
    def is_admin(self) -> bool:
        return "system:masters" in self.groups


@dataclass(slots=True)
class Call:
    resource: Resource
    namespace: str
    name: str
    subresource: str
    options: WriteOptions
    user: User
    now: datetime
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.key_of(self.name)

    @property
    def timestamp(self) -> str:
        return timestamp(self.now)

    def key_of(self, name: str) -> Key:
        return Key(self.resource.bucket, self.namespace, name)


def timestamp(now: datetime) -> str:
    """metav1.Time: RFC 3339 in UTC, whole seconds."""
    return now.isoformat(timespec="seconds")[:19] + "Z"  # a third of what strftime takes, and this is on every path
