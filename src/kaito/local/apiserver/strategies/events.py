"""Event is one kind in two groups: stored as core/v1, read and written as events.k8s.io/v1 too.

The pairs of field names are those of k8s.io/api events/v1 and core/v1.
"""

from __future__ import annotations

from kaito.local.apiserver.strategies.base import Strategy
from kaito.local.store.records import Object

NEW_GROUP = "events.k8s.io"
NEW_TO_CORE = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
REPORTER = ("reportingController", "reportingInstance")
CORE_TO_NEW = {core: new for new, core in NEW_TO_CORE.items()}


class EventStrategy(Strategy):
    status_on_create = True

    def to_storage(self, obj: Object) -> Object:
        if not str(obj.get("apiVersion", "")).startswith(NEW_GROUP):
            return obj
        return {NEW_TO_CORE.get(name, name): value for name, value in obj.items()}

    def from_storage(self, obj: Object, group: str) -> Object:
        if group != NEW_GROUP:
            return obj
        renamed = {CORE_TO_NEW.get(name, name): value for name, value in obj.items()}
        # The older group writes these though nobody set them.
        return {name: value for name, value in renamed.items() if value or name not in REPORTER}

    def converts(self, group: str) -> bool:
        return group == NEW_GROUP
