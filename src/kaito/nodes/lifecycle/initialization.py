"""Initialized: the node is ready and offers what the claim asked for, GPUs first of all."""

from __future__ import annotations

from kaito.api.conditions import find
from kaito.api.core import Node
from kaito.api.karpenter import LABEL_INITIALIZED, LABEL_INSTANCE_TYPE, Taint
from kaito.api.meta import Condition
from kaito.catalog.instances import find_instance_type
from kaito.nodes.claim import INITIALIZED, Claim, Quantities
from kaito.nodes.codecs import AWAITING
from kaito.nodes.lifecycle.world import Observed, PatchNode, Step, holds, pending

EPHEMERAL_TAINTS = {
    ("node.kubernetes.io/not-ready", "NoSchedule"),
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoSchedule"),
    ("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule"),
    ("karpenter.sh/unregistered", "NoExecute"),
}
EPHEMERAL_PREFIX = "readiness.k8s.io/"

IGNORED_REQUESTS = {"storage"}
"""Asked for as a disk size; no node ever offers it as a resource."""


def plan_initialization(seen: Observed, registered: Condition) -> Step:
    if registered.status != "True":
        return Step(pending(INITIALIZED, AWAITING, ""))
    node = seen.nodes[0]
    offers = {"capacity": dict(node.status.capacity), "allocatable": dict(node.status.allocatable)}
    if node.metadata.labels.get(LABEL_INITIALIZED) == "true" and seen.claim.is_true(INITIALIZED):
        return Step(holds(INITIALIZED), status=offers)  # once is for good: health watches from here on
    obstacle = _obstacle(seen.claim, node)
    if obstacle is not None:
        return Step(pending(INITIALIZED, *obstacle), status=offers)
    if node.metadata.labels.get(LABEL_INITIALIZED) == "true":
        return Step(holds(INITIALIZED), status=offers)
    patch = {"metadata": {"labels": {LABEL_INITIALIZED: "true"}}}
    # No version: the label stands alone, and the node may have been registered in this same pass.
    return Step(holds(INITIALIZED), (PatchNode(node.metadata.name, "", patch),), offers)


def _obstacle(claim: Claim, node: Node) -> tuple[str, str] | None:
    """Reason and message of the first thing that is missing."""
    name = node.metadata.name
    ready = find(node.status.conditions, "Ready")
    if ready is None or ready.status != "True":
        said = f": {ready.message}" if ready is not None and ready.message else ""
        return "NodeNotReady", f"node {name} is not ready yet{said}"
    startup = [t for t in node.spec.taints if _is_among(t, claim.startup_taints)]
    if startup:
        return "StartupTaintsExist", f"node {name} still has the startup taint {_text(startup[0])}"
    ephemeral = [t for t in node.spec.taints if is_ephemeral(t)]
    if ephemeral:
        return "KnownEphemeralTaintsExist", f"node {name} still has the taint {_text(ephemeral[0])}"
    for resource, amount in expected_resources(claim, node).items():
        if not is_zero(amount) and is_zero(node.status.allocatable.get(resource)):
            return "ResourceNotRegistered", f"node {name} does not offer {resource} yet; is its device plugin running?"
    return None


def expected_resources(claim: Claim, node: Node) -> Quantities:
    """What the claim asks for, and the GPUs that its instance type has: claims of Workspaces do not list them."""
    asked = {name: amount for name, amount in claim.requests.items() if name not in IGNORED_REQUESTS}
    name = node.metadata.labels.get(LABEL_INSTANCE_TYPE) or next(iter(claim.instance_types), "")
    kind = find_instance_type(name)
    gpus = {kind.resource: kind.gpu_count} if kind is not None and kind.gpu_count else {}
    return {**gpus, **asked}


def is_ephemeral(taint: Taint) -> bool:
    """A taint that the cluster itself sets on a young node and takes off again."""
    return (taint.key, taint.effect) in EPHEMERAL_TAINTS or taint.key.startswith(EPHEMERAL_PREFIX)


def is_zero(quantity: str | int | None) -> bool:
    """Whether a quantity is absent or nothing: `0`, `0Gi`, `0.0`."""
    digits = str(quantity or "0").rstrip("EPTGMKkimnu")
    return not any(d in "123456789" for d in digits)


def _is_among(taint: Taint, taints: tuple[Taint, ...]) -> bool:
    return any(taint.key == other.key and taint.effect == other.effect for other in taints)


def _text(taint: Taint) -> str:
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"
