"""The rights that the provisioner needs with a cloud's provider, and no more, beside the code that uses them.

The local and the simulated provider also make nodes and play their kubelets; those rights are theirs alone.
"""

from __future__ import annotations

from kaito.kube.rules import Rule
from kaito.nodes.provisioner import ProvisionerConfig

READ = ("list", "watch")

ALWAYS = (
    Rule("karpenter.sh", ["nodeclaims", "machines"], ["get", *READ, "patch", "delete"]),
    Rule("karpenter.sh", ["nodeclaims/status", "machines/status"], ["patch"]),
    Rule("", ["nodes"], [*READ, "patch", "delete"]),
    Rule("", ["pods"], [*READ, "delete"]),
    Rule("", ["pods/eviction"], ["create"]),
    Rule("", ["events"], ["create", "patch"]),
)
MAKES_NODES = (
    Rule("", ["nodes"], ["create"]),
    Rule("", ["nodes/status"], ["patch"]),
)
"""Of the simulated provider."""
OWN_LEASE = (
    Rule("coordination.k8s.io", ["leases"], ["create"]),
    Rule("coordination.k8s.io", ["leases"], ["get", "patch"], [ProvisionerConfig.lease_name]),
)
