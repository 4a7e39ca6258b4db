"""The kinds that the workload controllers read whole, and the names that Kubernetes gives to their marks."""

from __future__ import annotations

from typing import Any

import msgspec

from kaito.api.core import Generic
from kaito.api.meta import ObjectMeta
from kaito.kube.resources import Resource

PODS = Resource("", "v1", "pods", "Pod", True, Generic)
NODES = Resource("", "v1", "nodes", "Node", False, Generic)
SERVICES = Resource("", "v1", "services", "Service", True, Generic)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False, Generic)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True, Generic)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", True, Generic)
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet", True, Generic)
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet", True, Generic)
JOBS = Resource("batch", "v1", "jobs", "Job", True, Generic)


class Endpoints(msgspec.Struct, frozen=True, omit_defaults=True):
    metadata: ObjectMeta = ObjectMeta()
    subsets: list[dict[str, Any]] = []


class EndpointSlice(msgspec.Struct, frozen=True, omit_defaults=True):
    metadata: ObjectMeta = ObjectMeta()
    addressType: str = "IPv4"
    endpoints: list[dict[str, Any]] = []
    ports: list[dict[str, Any]] = []


class ControllerRevision(msgspec.Struct, frozen=True, omit_defaults=True):
    metadata: ObjectMeta = ObjectMeta()
    revision: int = 0
    data: dict[str, Any] = {}


ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints", True, Endpoints)
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True, EndpointSlice)
REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision", True, ControllerRevision)

LABEL_TEMPLATE_HASH = "pod-template-hash"
LABEL_REVISION_HASH = "controller-revision-hash"
LABEL_SERVICE_NAME = "kubernetes.io/service-name"
LABEL_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
ANNOTATION_REVISION = "deployment.kubernetes.io/revision"
ANNOTATION_DESIRED = "deployment.kubernetes.io/desired-replicas"
ANNOTATION_MAX = "deployment.kubernetes.io/max-replicas"
