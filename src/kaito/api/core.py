"""Narrow views of Kubernetes' own kinds: only the fields that somebody here reads.

For reading, never for writing back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kaito.api.karpenter import Taint
from kaito.api.meta import Condition, ObjectMeta


class NodeSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    providerID: str = ""
    taints: list[Taint] = []
    unschedulable: bool = False


class NodeStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    conditions: list[Condition] = []
    capacity: dict[str, str | int] = {}
    allocatable: dict[str, str | int] = {}
    addresses: list[dict[str, str]] = []


class Node(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ContainerStateWaiting(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    startedAt: str | None = None


class ContainerStateTerminated(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    exitCode: int = 0
    reason: str = ""
    message: str = ""
    signal: int = 0
    startedAt: str | None = None
    finishedAt: str | None = None


class ContainerState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    name: str = ""
    ready: bool = False
    started: bool | None = None
    restartCount: int = 0
    image: str = ""
    state: ContainerState = ContainerState()
    lastState: ContainerState = ContainerState()


class PodStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    phase: str = ""
    reason: str = ""
    message: str = ""
    podIP: str = ""
    conditions: list[Condition] = []
    initContainerStatuses: list[ContainerStatus] = []
    containerStatuses: list[ContainerStatus] = []
    startTime: str | None = None


class PodSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    nodeName: str = ""


class Pod(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    suspend: bool = False
    backoffLimit: int | None = None


class JobStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    conditions: list[Condition] = []
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    startTime: str | None = None
    completionTime: str | None = None


class Job(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class WorkloadSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    replicas: int = 1


class WorkloadStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    observedGeneration: int = 0
    replicas: int = 0
    readyReplicas: int = 0
    updatedReplicas: int = 0
    availableReplicas: int = 0
    unavailableReplicas: int = 0
    conditions: list[Condition] = []


class Workload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A Deployment or a StatefulSet."""

    metadata: ObjectMeta = ObjectMeta()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class ServicePort(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    port: int
    name: str = ""
    targetPort: str | int = 0
    protocol: str = "TCP"


class ServiceSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    type: str = "ClusterIP"
    clusterIP: str = ""
    clusterIPs: list[str] = []
    ports: list[ServicePort] = []
    selector: dict[str, str] = {}
    publishNotReadyAddresses: bool = False


class Service(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceSpec = ServiceSpec()


class ConfigMap(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}


class Secret(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A Secret by its keys; values stay base64 text, and `type` tells what they are."""

    metadata: ObjectMeta = ObjectMeta()
    type: str = ""
    data: dict[str, str] = {}


class LeaseSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    holderIdentity: str = ""
    leaseDurationSeconds: int = 0
    acquireTime: str | None = None
    renewTime: str | None = None
    leaseTransitions: int = 0


class Lease(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


class CustomResourceDefinition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class Generic(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A kind whose spec somebody needs whole (pod specs, selectors): plain dicts under typed metadata."""

    metadata: ObjectMeta = ObjectMeta()
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}
