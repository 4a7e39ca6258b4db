"""What the server counts, under vLLM's metric names where the meaning is the same, so that dashboards keep working."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kaito.runtime.serve.engines.base import EngineStats

FAST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
SLOW = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0)


class Metrics:
    """One registry per server. `stats` is asked at each scrape."""

    def __init__(self, model: str, stats: Callable[[], EngineStats]) -> None:
        self.registry = CollectorRegistry()
        labels: Any = {"labelnames": ["model_name"], "registry": self.registry}
        self._model = model
        self._stats = stats
        self.prompt_tokens = Counter("vllm:prompt_tokens", "Prompt tokens read.", **labels).labels(model)
        self.generation_tokens = Counter("vllm:generation_tokens", "Tokens generated.", **labels).labels(model)
        self.first_token = Histogram(
            "vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", buckets=FAST, **labels
        ).labels(model)
        self.between_tokens = Histogram(
            "vllm:inter_token_latency_seconds", "Between two tokens of an answer.", buckets=FAST, **labels
        ).labels(model)
        self.end_to_end = Histogram(
            "vllm:e2e_request_latency_seconds", "From a request's arrival to its last token.", buckets=SLOW, **labels
        ).labels(model)
        self._success = Counter(
            "vllm:request_success",
            "Sequences that ended, by why.",
            ["model_name", "finished_reason"],
            registry=self.registry,
        )
        self.rejected = Counter("kaito_ratelimit_rejected", "Requests answered 429.", registry=self.registry)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def finished(self, reason: str) -> None:
        self._success.labels(self._model, reason).inc()

    def collect(self) -> Iterator[Metric]:
        """The engine's own figures; this object is a collector."""
        stats = self._stats()
        gauges = (
            ("vllm:num_requests_running", "Sequences in the batch.", stats.running),
            ("vllm:num_requests_waiting", "Sequences that wait for a place.", stats.waiting),
            ("vllm:kv_cache_usage_perc", "Part of the KV memory that is in use or promised, 0 to 1.", stats.kv_usage),
        )
        for name, text, value in gauges:
            gauge = GaugeMetricFamily(name, text, labels=["model_name"])
            gauge.add_metric([self._model], value)
            yield gauge
        counters = (
            ("vllm:prefix_cache_queries", "Prompt tokens that were looked up.", stats.prefix_queries),
            ("vllm:prefix_cache_hits", "Prompt tokens whose keys were there already.", stats.prefix_hits),
        )
        for name, text, value in counters:
            counter = CounterMetricFamily(name, text, labels=["model_name"])
            counter.add_metric([self._model], value)
            yield counter
