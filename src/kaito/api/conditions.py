"""How a list of conditions changes: the transition time moves only when the status does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from kaito.api.meta import Condition


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    """Read what `timestamp` (or Kubernetes, with or without fractions) wrote. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    return next((c for c in conditions if c.type == type_), None)


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    found = find(conditions, type_)
    return found is not None and found.status == "True"


def merge(old: Sequence[Condition], new: Iterable[Condition], now: datetime) -> list[Condition]:
    """The conditions `new`, each with the transition time that it deserves.

    A condition whose status is the one in `old` keeps its transition time; any other gets `now`. Conditions that
    are only in `old` are dropped: the caller names all that hold.
    """
    merged = []
    for condition in new:
        before = find(old, condition.type)
        same = before is not None and before.status == condition.status and before.lastTransitionTime
        since = before.lastTransitionTime if same and before else timestamp(now)
        merged.append(
            Condition(
                type=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message,
                lastTransitionTime=since,
                observedGeneration=condition.observedGeneration,
                severity=condition.severity,
            )
        )
    return merged
