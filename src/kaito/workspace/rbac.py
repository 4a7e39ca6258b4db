"""The rights that the operator needs, and no more, beside the code that uses them.

A test compares them both ways with what an API server was asked for in whole lives of Workspaces. An apply is a patch,
and the right to create besides, for an object that is not there yet.
"""

from __future__ import annotations

from kaito.kube.rules import Rule
from kaito.workspace.admission import CONFIGURATION, SECRET
from kaito.workspace.operator import LEASE

READ = ("list", "watch")
APPLY = ("list", "watch", "create", "patch")

ALWAYS = (
    Rule("kaito.sh", ["workspaces"], [*READ, "patch"]),
    Rule("kaito.sh", ["workspaces/status"], ["patch"]),
    Rule("", ["nodes", "pods", "secrets"], READ),
    Rule("", ["pods/proxy"], ["get"]),
    Rule("", ["configmaps", "services"], APPLY),
    Rule("", ["events"], [*READ, "create", "patch"]),
    Rule("batch", ["jobs"], [*READ, "create", "patch", "delete"]),
    Rule("apps", ["deployments", "statefulsets"], [*APPLY, "delete"]),
)
CLAIMS = (Rule("karpenter.sh", ["nodeclaims", "machines"], [*READ, "create", "delete"]),)
"""Where nodes are asked for: in every node mode but byo."""
POOLS = (Rule("karpenter.sh", ["nodepools"], [*APPLY, "delete"]),)
"""In the karpenter mode, where `--node-api nodepool` asks for them by pools."""
WEBHOOK = (
    Rule("admissionregistration.k8s.io", ["validatingwebhookconfigurations"], ["get", "patch"], [CONFIGURATION]),
)
"""To put the authority into the configuration, which the installation made."""
OWN_LEASE = (
    Rule("coordination.k8s.io", ["leases"], ["create"]),
    Rule("coordination.k8s.io", ["leases"], ["get", "patch"], [LEASE]),
)
"""In the operator's own namespace. A create has no name yet that a rule could see."""
OWN_CERTIFICATE = (
    Rule("", ["secrets"], ["create"]),
    Rule("", ["secrets"], ["get", "patch"], [SECRET]),
)
