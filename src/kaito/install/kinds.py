"""The kinds that an installation is made of, read as plain data, in the order in which they are applied."""

from __future__ import annotations

from typing import Any

from kaito.kube.resources import Resource, untyped

CRDS = untyped("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
DEPLOYMENTS = untyped("apps", "v1", "deployments", "Deployment", True)
PODS = untyped("", "v1", "pods", "Pod", True)
NAMESPACES = untyped("", "v1", "namespaces", "Namespace", False)
_RBAC = "rbac.authorization.k8s.io"
_WEBHOOKS = "validatingwebhookconfigurations"

ALL: tuple[Resource[dict[str, Any]], ...] = (
    CRDS,
    untyped("", "v1", "serviceaccounts", "ServiceAccount", True),
    untyped(_RBAC, "v1", "clusterroles", "ClusterRole", False),
    untyped(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    untyped(_RBAC, "v1", "roles", "Role", True),
    untyped(_RBAC, "v1", "rolebindings", "RoleBinding", True),
    untyped("", "v1", "configmaps", "ConfigMap", True),
    untyped("", "v1", "services", "Service", True),
    untyped("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True),
    untyped("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True),
    untyped("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor", True),
    untyped("apps", "v1", "daemonsets", "DaemonSet", True),
    DEPLOYMENTS,
    untyped("admissionregistration.k8s.io", "v1", _WEBHOOKS, "ValidatingWebhookConfiguration", False),
)

_BY_KIND = {resource.kind: resource for resource in (*ALL, NAMESPACES)}


def resource_of(body: dict[str, Any]) -> Resource[dict[str, Any]]:
    """Where an object of the installation lives in the API."""
    return _BY_KIND[body["kind"]]
