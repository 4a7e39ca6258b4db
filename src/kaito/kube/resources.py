"""Which kinds the suite touches, and the narrow Struct that each is read as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kaito.api import core, karpenter, workspace

T = TypeVar("T")


@dataclass(frozen=True)
class Resource(Generic[T]):
    """A kind at one version: where it lives in the API and what it is decoded as.

    `model` is a msgspec Struct with `metadata`, or `dict` for a kind that is not known when this is written.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    model: type[T]

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path, without a leading slash. An empty namespace means all of them (or a cluster-scoped kind)."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


WORKSPACES = Resource("kaito.sh", workspace.STORAGE_VERSION, "workspaces", "Workspace", True, workspace.Workspace)
NODE_CLAIMS = Resource("karpenter.sh", "v1", "nodeclaims", "NodeClaim", False, karpenter.NodeClaim)
NODE_CLAIMS_V1BETA1 = Resource("karpenter.sh", "v1beta1", "nodeclaims", "NodeClaim", False, karpenter.NodeClaim)
MACHINES = Resource("karpenter.sh", "v1alpha5", "machines", "Machine", False, karpenter.NodeClaim)
NODE_POOLS = Resource("karpenter.sh", "v1", "nodepools", "NodePool", False, karpenter.NodePool)
NODES = Resource("", "v1", "nodes", "Node", False, core.Node)
PODS = Resource("", "v1", "pods", "Pod", True, core.Pod)
SERVICES = Resource("", "v1", "services", "Service", True, core.Service)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", True, core.ConfigMap)
SECRETS = Resource("", "v1", "secrets", "Secret", True, core.Secret)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False, core.Generic)
EVENTS = Resource("", "v1", "events", "Event", True, dict[str, Any])
JOBS = Resource("batch", "v1", "jobs", "Job", True, core.Job)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", True, core.Workload)
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet", True, core.Workload)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", True, core.Lease)
CRDS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    False,
    core.CustomResourceDefinition,
)


def untyped(group: str, version: str, plural: str, kind: str, namespaced: bool) -> Resource[dict[str, Any]]:
    """A kind read as plain dicts, for callers that learn at run time what they deal with."""
    return Resource(group, version, plural, kind, namespaced, dict)
