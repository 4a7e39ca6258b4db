"""Metrics under the names that Karpenter and gpu-provisioner give them, so that dashboards for those go on to work.

Counters of claims and nodes are raised where the step is done; calls to the cloud are timed around the provider.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import Counter, Gauge, Histogram

from kaito import __version__
from kaito.api.core import Node
from kaito.api.karpenter import LABEL_NODEPOOL
from kaito.nodes.claim import INITIALIZED, LAUNCHED, REGISTERED, Claim
from kaito.nodes.errors import ProviderError
from kaito.nodes.providers.base import Instance, Provider

MINUTES = (5, 15, 30, 60, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 3600)
"""Buckets, in seconds, for what a cloud takes to bring or to end a machine."""

CLAIMS_CREATED = Counter("karpenter_nodeclaims_created_total", "Claims whose instance was asked for", ["nodepool"])
CLAIMS_TERMINATED = Counter("karpenter_nodeclaims_terminated_total", "Claims that are gone", ["nodepool"])
CLAIMS_DISRUPTED = Counter("karpenter_nodeclaims_disrupted_total", "Claims that we deleted", ["nodepool", "reason"])
CLAIM_TERMINATION = Histogram(
    "karpenter_nodeclaims_termination_duration_seconds", "From a claim's deletion until it is gone", buckets=MINUTES
)
INSTANCE_TERMINATION = Histogram(
    "karpenter_nodeclaims_instance_termination_duration_seconds",
    "From the first call to delete an instance until it is gone",
    buckets=MINUTES,
)
NODES_CREATED = Counter("karpenter_nodes_created_total", "Nodes that have joined for a claim", ["nodepool"])
NODES_TERMINATED = Counter("karpenter_nodes_terminated_total", "Nodes that were deleted with their claim", ["nodepool"])
NODES_DRAINED = Counter("karpenter_nodes_drained_total", "Nodes that were drained", ["nodepool"])
NODE_TERMINATION = Histogram(
    "karpenter_nodes_termination_duration_seconds", "From a claim's deletion until its node goes", buckets=MINUTES
)
MACHINES = {
    step: Counter(f"karpenter_machines_{step}", f"Machines that were {step}", ["provisioner"])
    for step in ("created", "launched", "registered", "initialized", "terminated")
}
CLOUD_LABELS = ("controller", "method", "provider")
CLOUD_SECONDS = Histogram("karpenter_cloudprovider_duration_seconds", "Time of one call to the cloud", CLOUD_LABELS)
CLOUD_ERRORS = Counter(
    "karpenter_cloudprovider_errors_total", "Calls to the cloud that failed", [*CLOUD_LABELS, "error"]
)
BUILD_INFO = Gauge("karpenter_build_info", "1 for the version that runs", ["version"])
BUILD_INFO.labels(__version__).set(1)

_STEPS = {LAUNCHED: "launched", REGISTERED: "registered", INITIALIZED: "initialized"}


def _pool(claim: Claim) -> str:
    return claim.labels.get(LABEL_NODEPOOL, "")


def count_created(claim: Claim) -> None:
    CLAIMS_CREATED.labels(_pool(claim)).inc()
    _count_machine(claim, "created")


def count_condition(claim: Claim, condition: str) -> None:
    """A condition has become True."""
    if condition == REGISTERED:
        NODES_CREATED.labels(_pool(claim)).inc()
    if condition in _STEPS:
        _count_machine(claim, _STEPS[condition])


def count_disrupted(claim: Claim, reason: str) -> None:
    CLAIMS_DISRUPTED.labels(_pool(claim), reason).inc()


def count_drained(claim: Claim) -> None:
    NODES_DRAINED.labels(_pool(claim)).inc()


def count_node_gone(claim: Claim, now: datetime) -> None:
    NODES_TERMINATED.labels(_pool(claim)).inc()
    if claim.deleted_at is not None:
        NODE_TERMINATION.observe(_seconds(claim.deleted_at, now))


def count_gone(claim: Claim, instance_since: datetime | None, now: datetime) -> None:
    """The claim is let go. `instance_since` is when the deletion of its instance was first asked for, if it was."""
    CLAIMS_TERMINATED.labels(_pool(claim)).inc()
    _count_machine(claim, "terminated")
    if claim.deleted_at is not None:
        CLAIM_TERMINATION.observe(_seconds(claim.deleted_at, now))
    if instance_since is not None:
        INSTANCE_TERMINATION.observe(_seconds(instance_since, now))


def _count_machine(claim: Claim, step: str) -> None:
    if claim.kind == "Machine":
        MACHINES[step].labels(claim.labels.get("karpenter.sh/provisioner-name", "")).inc()


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())


class MeteredProvider:
    """A provider whose calls are timed and whose errors are counted."""

    def __init__(self, provider: Provider, controller: str = "provisioner") -> None:
        self._provider = provider
        self._controller = controller
        self.name = provider.name
        self.poll_seconds = provider.poll_seconds

    async def create(self, claim: Claim) -> Instance:
        with self._timed("Create"):
            return await self._provider.create(claim)

    async def get(self, name: str) -> Instance:
        with self._timed("Get"):
            return await self._provider.get(name)

    async def list(self) -> list[Instance]:
        with self._timed("List"):
            return await self._provider.list()

    async def explain(self, name: str, operation: str) -> ProviderError | None:
        with self._timed("Explain"):
            return await self._provider.explain(name, operation)

    async def delete(self, name: str) -> None:
        with self._timed("Delete"):
            await self._provider.delete(name)

    def claim_name(self, node: Node) -> str:
        return self._provider.claim_name(node)

    async def run(self) -> None:
        await self._provider.run()

    async def close(self) -> None:
        await self._provider.close()

    @contextmanager
    def _timed(self, method: str) -> Iterator[None]:
        labels = (self._controller, method, self.name)
        began = time.perf_counter()
        try:
            yield
        except ProviderError as error:
            CLOUD_ERRORS.labels(*labels, type(error).__name__).inc()
            raise
        finally:
            CLOUD_SECONDS.labels(*labels).observe(time.perf_counter() - began)
