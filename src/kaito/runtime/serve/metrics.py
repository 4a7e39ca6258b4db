"""What the server counts, under vLLM's metric names where the meaning is the same, so that dashboards keep working."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kaito.runtime.serve.engines.base import EngineStats

LABELS = ("model_name", "engine")
ENGINE = "0"
FAST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
SLOW = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0)


COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Metrics:
    """One registry per server. `stats` is asked at each scrape."""

    def __init__(self, model: str, stats: Callable[[], EngineStats]) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._stats = stats
        self.prompt_tokens = self._labelled(Counter("vllm:prompt_tokens", "Prompt tokens read.", **self._kept()))
        self.generation_tokens = self._labelled(Counter("vllm:generation_tokens", "Tokens generated.", **self._kept()))
        self.first_token = self._histogram(
            "vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", FAST
        )
        self.between_tokens = self._histogram(
            "vllm:inter_token_latency_seconds", "Between two tokens of an answer.", FAST
        )
        # The older name of the same, which many dashboards ask for.
        self.per_output_token = self._histogram(
            "vllm:time_per_output_token_seconds", "Between two tokens of an answer.", FAST
        )
        self.end_to_end = self._histogram(
            "vllm:e2e_request_latency_seconds", "From a request's arrival to its last token.", SLOW
        )
        self.decode_time = self._histogram(
            "vllm:request_decode_time_seconds", "From a request's first token to its last.", SLOW
        )
        self.read = self._histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", COUNTS)
        self.written = self._histogram("vllm:request_generation_tokens", "Generated tokens of a request.", COUNTS)
        self.asked = self._histogram("vllm:request_params_max_tokens", "Tokens that a request may generate.", COUNTS)
        self._success = Counter(
            "vllm:request_success",
            "Sequences that ended, by why.",
            ["model_name", "engine", "finished_reason"],
            registry=self.registry,
        )
        self.rejected = Counter("kaito_ratelimit_rejected", "Requests answered 429.", registry=self.registry)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def _kept(self) -> Any:
        return {"labelnames": LABELS, "registry": self.registry}

    def _labelled(self, metric: Any) -> Any:
        return metric.labels(self._model, ENGINE)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Any:
        return self._labelled(Histogram(name, text, buckets=buckets, **self._kept()))

    def finished(self, reason: str) -> None:
        self._success.labels(self._model, ENGINE, reason).inc()

    def collect(self) -> Iterator[Metric]:
        """The engine's own figures; this object is a collector."""
        stats = self._stats()
        gauges = (
            ("vllm:num_requests_running", "Sequences in the batch.", stats.running),
            ("vllm:num_requests_waiting", "Sequences that wait for a place.", stats.waiting),
            ("vllm:kv_cache_usage_perc", "Part of the KV memory that is in use or promised, 0 to 1.", stats.kv_usage),
            ("vllm:gpu_cache_usage_perc", "The older name of vllm:kv_cache_usage_perc.", stats.kv_usage),
        )
        for name, text, value in gauges:
            gauge = GaugeMetricFamily(name, text, labels=LABELS)
            gauge.add_metric([self._model, ENGINE], value)
            yield gauge
        counters = (
            ("vllm:prefix_cache_queries", "Prompt tokens that were looked up.", stats.prefix_queries),
            ("vllm:prefix_cache_hits", "Prompt tokens whose keys were there already.", stats.prefix_hits),
            ("vllm:num_preemptions", "Sequences thrown out half-way; this engine never does.", 0),
        )
        for name, text, value in counters:
            counter = CounterMetricFamily(name, text, labels=LABELS)
            counter.add_metric([self._model, ENGINE], value)
            yield counter
