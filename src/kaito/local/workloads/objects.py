"""What every workload controller asks of objects: who owns them, whether a pod counts, how a template is told apart.

Pure. Objects are `core.Generic`: typed metadata over plain dicts, because a pod template travels through unread.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kaito.api.conditions import parse_timestamp
from kaito.api.core import Generic
from kaito.api.meta import ObjectMeta
from kaito.kube.resources import Resource

EPOCH = datetime.fromtimestamp(0, UTC)
HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Without vowels and look-alikes, so that no name spells a word."""


def controller_uid(metadata: ObjectMeta) -> str:
    """The uid of the owner that controls the object; empty when nobody does."""
    return next((owner.uid for owner in metadata.ownerReferences if owner.controller), "")


def controller_reference(resource: Resource[Any], metadata: ObjectMeta) -> dict[str, Any]:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def phase(pod: Generic) -> str:
    return str(pod.status.get("phase") or "Pending")


def is_finished(pod: Generic) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_terminating(obj: Generic) -> bool:
    return obj.metadata.deletionTimestamp is not None


def is_active(pod: Generic) -> bool:
    """Neither finished nor on its way out: it counts as a replica."""
    return not is_finished(pod) and not is_terminating(pod)


def ready_since(pod: Generic) -> datetime | None:
    """When the pod became ready; None while it is not."""
    condition = condition_of(pod.status, "Ready")
    if condition is None or condition.get("status") != "True" or is_terminating(pod):
        return None
    since = condition.get("lastTransitionTime") or pod.metadata.creationTimestamp
    return parse_timestamp(since) if since else EPOCH


def is_ready(pod: Generic) -> bool:
    return ready_since(pod) is not None


def seconds_to_available(pod: Generic, min_ready_seconds: int, now: datetime) -> float | None:
    """0 when the pod is available, seconds until it will be when it stays ready, None while it is not ready."""
    since = ready_since(pod)
    if since is None:
        return None
    if min_ready_seconds == 0:
        return 0.0
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def restart_count(pod: Generic) -> int:
    """Restarts of all containers, the init containers' among them."""
    statuses = [*pod.status.get("initContainerStatuses", ()), *pod.status.get("containerStatuses", ())]
    return sum(int(status.get("restartCount", 0)) for status in statuses)


def condition_of(status: Mapping[str, Any], type_: str) -> dict[str, Any] | None:
    return next((c for c in status.get("conditions") or () if c.get("type") == type_), None)


def template_hash(value: Any) -> str:
    """Ten characters that tell one pod template from another; fit for names and label values."""
    number = int.from_bytes(hashlib.sha256(msgspec.json.encode(value, order="sorted")).digest()[:8], "big")
    characters = []
    for _ in range(10):
        number, digit = divmod(number, len(HASH_ALPHABET))
        characters.append(HASH_ALPHABET[digit])
    return "".join(characters)


def scaled_value(value: int | str | None, total: int, *, default: int | str, round_up: bool) -> int:
    """An int-or-percent of a rollout strategy as a number of pods. A text that is no percent counts as the default."""
    if value is None:
        value = default
    if isinstance(value, int):
        return value
    digits = value.removesuffix("%")
    if not digits.isdigit():
        return scaled_value(default, total, default=0, round_up=round_up)
    exact = int(digits) * total / 100
    return math.ceil(exact) if round_up else math.floor(exact)


def oldest_first(objects: Iterable[Generic]) -> list[Generic]:
    return sorted(objects, key=lambda obj: (obj.metadata.creationTimestamp or "", obj.metadata.name))
