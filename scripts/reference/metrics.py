"""docs/reference/metrics.md: what Prometheus is told, from the collectors that the processes register."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from prometheus_client import REGISTRY

from kaito.kube import controller  # registers the metrics of the reconciles
from kaito.nodes import metrics as node_metrics  # registers those of the provisioner
from kaito.runtime.progress import METRICS
from kaito.runtime.serve.engines.base import EngineStats
from kaito.runtime.serve.metrics import Metrics
from kaito.workspace.metrics import WorkspaceCollector

assert controller, node_metrics
HEAD = """# Metrics

<!-- Made by `make reference` from the collectors; a test compares them. Edit the code. -->

The operator and the provisioner serve theirs on `--metrics-port` (the chart: 8080), steps and servers on port 5000 of their pods,
all at `/metrics`. Counters have `_total` behind the name; each process also has Python's own `process_*`.
[Operations](../operations.md#alerts) has alerts on them.
"""
SILENT = ("python_", "process_")


def page() -> str:
    operator = [*_global("kaito_"), *_rows(WorkspaceCollector(list, Counter()).collect())]
    stats: Any = EngineStats
    serving = Metrics("MODEL", lambda: _any(stats)).registry.collect()
    tuning = [f"| `{name}` | gauge | | {text} |\n" for name, text in METRICS.values()]
    info = "| `kaito_step_info` | gauge | `step`, `state` | The step that runs here. |\n"
    parts = [HEAD, _section("The operator", sorted(operator))]
    parts.append(_section("The node provisioner", sorted(_global("karpenter_"))))
    parts.append(_section("Serving", sorted(_rows(serving))))
    parts.append("\nWith the vllm engine these are vLLM's own, under the same names, and more of them.\n")
    parts.append(_section("Steps at work", [info, *tuning]))
    return "".join(parts)


def _any(stats: Any) -> Any:
    """Statistics of an engine that never ran: every number is 0."""
    return stats(**dict.fromkeys(getattr(stats, "__annotations__", {}), 0))


def _section(title: str, rows: Iterable[str]) -> str:
    return f"\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n" + "".join(dict.fromkeys(rows))


def _global(prefix: str) -> list[str]:
    labels = {}
    for collector, names in REGISTRY._collector_to_names.items():  # the client tells labels nowhere else
        for name in names:
            labels[name] = getattr(collector, "_labelnames", ())
    return [
        row
        for metric in REGISTRY.collect()
        if metric.name.startswith(prefix)
        for row in [_row(metric, labels.get(metric.name, ()))]
    ]


def _rows(metrics: Iterable[Any]) -> list[str]:
    return [_row(metric, _labels(metric)) for metric in metrics if not metric.name.startswith(SILENT)]


def _labels(metric: Any) -> tuple[str, ...]:
    if getattr(metric, "_labelnames", None):
        return tuple(metric._labelnames)
    return tuple(metric.samples[0].labels) if metric.samples else ()


def _row(metric: Any, labels: Iterable[str]) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    shown = ", ".join(f"`{label}`" for label in labels if label != "le")
    return f"| `{name}` | {metric.type} | {shown} | {metric.documentation.rstrip('.')}. |\n"
