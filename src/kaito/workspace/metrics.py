"""What Prometheus is told beside the reconcile metrics: Workspaces by state and preset, orphans, API calls by verb.

All are counted when they are asked for, from what the process knows anyway. `phase` and the names of the first two are
KAITO's, so that its dashboards go on working; `state` says more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sized

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kaito.api.conditions import is_true
from kaito.api.workspace import Workspace
from kaito.workspace.references import named_preset


def phase_of(workspace: Workspace) -> str:
    """KAITO's word for it: deleting, succeeded, error or pending. Work that goes its way is no error here."""
    if workspace.metadata.deletionTimestamp is not None:
        return "deleting"
    if is_true(workspace.status.conditions, "WorkspaceSucceeded"):
        return "succeeded"
    return "error" if workspace.status.state in ("Failed", "NotReady") else "pending"


class WorkspaceCollector(Collector):
    def __init__(
        self,
        workspaces: Callable[[], Iterable[Workspace]],
        calls: Counter[str],
        orphans: Callable[[], Sized] = tuple,
    ) -> None:
        self._workspaces = workspaces
        self._calls = calls
        self._orphans = orphans

    def collect(self) -> Iterable[Metric]:
        states, presets = Counter[tuple[str, str]](), Counter[str]()
        for workspace in self._workspaces():
            states[phase_of(workspace), workspace.status.state or "Pending"] += 1
            preset = named_preset(workspace)
            presets[preset.name if preset else "none"] += 1
        count = GaugeMetricFamily("kaito_workspace_count", "Workspaces by phase and state", labels=["phase", "state"])
        for labels, number in sorted(states.items()):
            count.add_metric(labels, number)
        yield count
        by_preset = GaugeMetricFamily("kaito_workspace_preset_count", "Workspaces by preset", labels=["preset_name"])
        for name, number in sorted(presets.items()):
            by_preset.add_metric([name], number)
        yield by_preset
        text = "Node claims and pools whose Workspace is gone"
        yield GaugeMetricFamily("kaito_orphaned_node_objects", text, value=len(self._orphans()))
        calls = CounterMetricFamily("kaito_api_calls", "Requests to the API server by verb", labels=["verb"])
        for verb, number in sorted(self._calls.items()):
            calls.add_metric([verb], number)
        yield calls
