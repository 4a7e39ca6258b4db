"""The rights that the operator needs, and no more: what a ClusterRole and a Role of its own namespace say.

Kept beside the code that uses them; a test compares them with every request that the operator makes.
"""

from __future__ import annotations

from typing import Any

CHILD = ["list", "watch", "create", "patch"]


def cluster_rules(node_mode: str, *, webhook: bool = False) -> list[dict[str, Any]]:
    """For the ClusterRole. `node_mode` is that of `--nodes`."""
    rules = [
        _rule("kaito.sh", ["workspaces"], ["list", "watch", "patch"]),
        _rule("kaito.sh", ["workspaces/status"], ["patch"]),
        _rule("", ["nodes", "pods", "secrets"], ["list", "watch"]),
        _rule("", ["pods/proxy"], ["get"]),
        _rule("", ["configmaps", "services"], CHILD),
        _rule("", ["events"], ["create", "patch"]),
        _rule("batch", ["jobs"], [*CHILD, "delete"]),
        _rule("apps", ["deployments", "statefulsets"], [*CHILD, "delete"]),
    ]
    if node_mode != "byo":
        rules.append(_rule("karpenter.sh", ["nodeclaims", "machines"], ["list", "watch", "create", "delete"]))
    if webhook:
        hooks = ["validatingwebhookconfigurations"]
        rules.append(_rule("admissionregistration.k8s.io", hooks, ["create", "patch"]))
    return rules


def namespace_rules(*, webhook: bool = False) -> list[dict[str, Any]]:
    """For the Role in the operator's own namespace."""
    rules = [_rule("coordination.k8s.io", ["leases"], ["get", "create", "patch"])]
    if webhook:
        rules.append(_rule("", ["secrets"], ["get", "create", "patch"]))
    return rules


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
