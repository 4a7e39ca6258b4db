"""What Prometheus is told beside the reconcile metrics: Workspaces by state, and API calls by verb.

Both are counted when they are asked for, from what the process knows anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kaito.api.workspace import Workspace


class WorkspaceCollector(Collector):
    def __init__(self, workspaces: Callable[[], Iterable[Workspace]], calls: Counter[str]) -> None:
        self._workspaces = workspaces
        self._calls = calls

    def collect(self) -> Iterable[Metric]:
        states = Counter(workspace.status.state or "Pending" for workspace in self._workspaces())
        count = GaugeMetricFamily("kaito_workspace_count", "Workspaces by state", labels=["state"])
        for state, number in sorted(states.items()):
            count.add_metric([state], number)
        yield count
        calls = CounterMetricFamily("kaito_api_calls", "Requests to the API server by verb", labels=["verb"])
        for verb, number in sorted(self._calls.items()):
            calls.add_metric([verb], number)
        yield calls
