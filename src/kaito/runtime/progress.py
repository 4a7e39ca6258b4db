"""What a running step tells the world: one small, thread-safe record and the HTTP server that shows it.

The server is the standard library's, in threads of its own, because it must answer while torch holds the main thread
for seconds at a time and because the light steps must not load a web framework to say "Running".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from kaito.runtime.errors import RuntimeFailure, StepError

# Fields of the tuning progress and the metric that each becomes: (name, help).
METRICS = {
    "trainStep": ("kaito_tuning_step", "Optimizer steps done."),
    "totalSteps": ("kaito_tuning_steps_planned", "Optimizer steps planned."),
    "epoch": ("kaito_tuning_epoch", "Passes over the training data, fractional."),
    "loss": ("kaito_tuning_loss", "Training loss of the last step that was logged."),
    "evalLoss": ("kaito_tuning_eval_loss", "Loss on the held-out part."),
    "tokensPerSecond": ("kaito_tuning_tokens_per_second", "Tokens trained per second."),
    "etaSeconds": ("kaito_tuning_eta_seconds", "Seconds until training ends, estimated."),
    "learningRate": ("kaito_tuning_learning_rate", "Learning rate of the last step."),
    "gradNorm": ("kaito_tuning_gradient_norm", "Gradient norm of the last step."),
    "memoryBytes": ("kaito_tuning_memory_bytes", "Peak memory of the accelerator, or of the process on a CPU."),
    "bytesDone": ("kaito_step_bytes_done", "Bytes moved so far."),
    "bytesTotal": ("kaito_step_bytes_planned", "Bytes to move in all, where known."),
    "checkpointStep": ("kaito_tuning_checkpoint_step", "Step of the last checkpoint written."),
    "checkpointPushedStep": ("kaito_tuning_checkpoint_pushed_step", "Step of the last checkpoint pushed."),
    "rows": ("kaito_data_rows", "Rows accepted so far."),
    "rejectedRows": ("kaito_data_rejected_rows", "Rows rejected so far."),
}


class Progress:
    """The `/progress` record of one step. Every method may be called from any thread."""

    def __init__(self, step: str) -> None:
        self._lock = threading.Lock()
        self._fields: dict[str, Any] = {"step": step, "state": "Running", "message": "", "reason": "", "hint": ""}

    def update(self, **fields: Any) -> None:
        """Set some fields and leave the others; numbers may be None where not known yet."""
        with self._lock:
            self._fields.update(fields)

    def running(self, message: str) -> None:
        self.update(state="Running", message=message, reason="", hint="")

    def waiting(self, failure: RuntimeFailure) -> None:
        """The step goes on by itself once someone mends what `failure` names."""
        self.update(state="Waiting", **failure.as_dict())

    def failed(self, failure: RuntimeFailure) -> None:
        self.update(state="Failed", **failure.as_dict())

    def snapshot(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._fields)

    def collect(self) -> Iterator[Metric]:
        """The numbers of the record as Prometheus gauges; this object is a collector."""
        fields = self.snapshot()
        up = GaugeMetricFamily("kaito_step_info", "The step that runs here.", labels=["step", "state"])
        up.add_metric([fields["step"], fields["state"]], 1)
        yield up
        for field, (name, text) in METRICS.items():
            value = fields.get(field)
            if isinstance(value, (int, float)):
                yield GaugeMetricFamily(name, text, value=float(value))


class ProgressServer:
    """GET /progress, /healthz and /metrics of one step, from a thread. A context manager; `.port` once entered."""

    def __init__(self, progress: Progress, host: str, port: int) -> None:
        self._progress = progress
        self._address = (host, port)
        self._registry = CollectorRegistry()
        self._registry.register(progress)
        ProcessCollector(registry=self._registry)
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.server_address[1])

    def __enter__(self) -> ProgressServer:
        host, port = self._address
        try:
            self._server = _server_class(host)(self._address, self._handler_class())
        except OSError as error:
            raise StepError(
                "PortUnavailable",
                f"cannot listen on {host} port {port}: {error.strerror or error}",
                "set KAITO_PORT to a free port, or 0 for any",
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="progress", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def respond(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        match path.partition("?")[0]:
            case "/progress":
                return HTTPStatus.OK, "application/json", json.dumps(finite(self._progress.snapshot())).encode()
            case "/healthz" | "/health":
                return HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n"
            case "/metrics":
                return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"try /progress, /healthz or /metrics\n"

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30  # seconds; an idle connection must not hold a thread for ever

            def do_GET(self) -> None:
                status, content_type, body = server.respond(self.path)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Polls every few seconds would drown the step's own log."""

        return Handler


def finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The record with NaN and infinities as null: JSON has no word for them."""
    return {
        key: None if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))) else value
        for key, value in fields.items()
    }


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    if ":" not in host:
        return ThreadingHTTPServer
    import socket

    return type("ThreadingHTTPServer6", (ThreadingHTTPServer,), {"address_family": socket.AF_INET6})
