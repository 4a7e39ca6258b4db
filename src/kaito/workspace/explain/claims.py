"""What a claim says: which step of launch, registration and initialization it is at, and what went wrong there."""

from __future__ import annotations

from datetime import datetime

from kaito.api.conditions import find, is_true, parse_timestamp
from kaito.api.karpenter import TERMINATION_FINALIZER, NodeClaim, NodePool
from kaito.api.meta import Condition
from kaito.workspace.causes import Cause
from kaito.workspace.settings import PROVISIONER_PATIENCE

STEPS = ("Launched", "Registered", "Initialized")
IN_PROGRESS = frozenset(
    {
        "",
        "AwaitingReconciliation",
        "ReconcilingDependents",
        "Launching",
        "NodeNotFound",
        "NotInitialized",
        "NotRegistered",
        "MachineNotLaunched",
        "MachineNotRegistered",
        "NotLaunched",
        "UnhealthyDependents",
    }
)
"""Reasons that say "not yet"; any other with a message is a trouble worth its own name."""
WAIT = "There is nothing to do: it is asked for again by itself."
HINTS = {
    "SubscriptionQuotaReached": "Raise the quota of the instance type's family, or choose another type.",
    "QuotaExceeded": "Raise the quota of the instance type's family, or choose another type.",
    "InsufficientCapacity": "Choose another instance type or region, or wait until the cloud has some.",
    "InstanceTypeNotAvailable": "Choose an instance type that the region offers.",
    "SkuNotAvailable": "Choose an instance type that the region offers.",
    "ZonalAllocationFailed": "Choose another zone or instance type, or wait until the cloud has some.",
    "InvalidSpec": "Choose another instance type: no retry can meet this claim.",
    "CloudBusy": WAIT,
    "Throttled": WAIT,
    "ListFailed": WAIT,
    "InstanceCreating": "Clouds take some minutes for this.",
    "AuthorizationFailed": "Give the node provisioner's identity its role on the cluster.",
    "RegistrationDeadlineExceeded": "Delete the claim to get another machine.",
    "NodeNotReady": "See `kubectl describe node` if it lasts.",
    "ResourceNotRegistered": "See that the GPU's device plugin runs on the node.",
}
DEFAULT_HINT = "See `kubectl describe` of the claim and the node provisioner's log."


def cause_of_claim(claim: NodeClaim, now: datetime) -> tuple[Cause | None, float | None]:
    """Why the claim is not ready, None when it is; and in how many seconds that answer changes by itself."""
    if is_true(claim.status.conditions, "Ready"):
        return None, None
    untouched, wait = _is_untouched(claim, now)
    name = claim.metadata.name
    if untouched:
        message = f"Nobody has taken up the claim {name} for {PROVISIONER_PATIENCE:.0f} seconds"
        hint = "Start the node provisioner (`kaito provisioner`), or look at its log."
        return Cause("ProvisionerNotRunning", message, hint, "the node provisioner"), None
    for step in STEPS:
        condition = find(claim.status.conditions, step) or find(claim.status.conditions, f"Machine{step}")
        if condition is not None and condition.status == "True":
            continue
        return _cause_of_step(name, step, condition), wait
    return Cause("NodeClaimNotReady", f"The node of the claim {name} is being made", "", "the node provisioner"), wait


def cause_of_pool(pool: NodePool, now: datetime) -> tuple[Cause | None, float | None]:
    """Why Karpenter makes no claims of a pool, None when that is not known; and when that answer may change."""
    name = pool.metadata.name
    refused = next((c for c in pool.status.conditions if c.status == "False" and c.message), None)
    if refused is not None:
        hint = "Mend the node class that it refers to, or name another with the annotation kaito.sh/node-class-name."
        return Cause(refused.reason, f"The NodePool {name} is not ready: {refused.message}", hint, "Karpenter"), None
    age = _age(pool.metadata.creationTimestamp, now)
    if age < PROVISIONER_PATIENCE:
        return None, max(1.0, PROVISIONER_PATIENCE - age)
    message = f"Karpenter has made no claim of the NodePool {name} for {PROVISIONER_PATIENCE:.0f} seconds"
    hint = "See that it runs with the feature gate StaticCapacity=true, and look at its log."
    return Cause("ProvisionerNotRunning", message, hint, "Karpenter"), None


def _age(created: str | None, now: datetime) -> float:
    return (now - parse_timestamp(created)).total_seconds() if created else 0.0


def _is_untouched(claim: NodeClaim, now: datetime) -> tuple[bool, float | None]:
    if claim.status.conditions or TERMINATION_FINALIZER in claim.metadata.finalizers:
        return False, None
    age = _age(claim.metadata.creationTimestamp, now)
    return age >= PROVISIONER_PATIENCE, max(1.0, PROVISIONER_PATIENCE - age)


def _cause_of_step(name: str, step: str, condition: Condition | None) -> Cause:
    doing = {"Launched": "launched", "Registered": "registered", "Initialized": "initialized"}[step]
    if condition is None or condition.reason in IN_PROGRESS or not condition.message:
        said = f": {condition.message}" if condition is not None and condition.reason == "NodeNotFound" else ""
        message = f"The node of the claim {name} is being made{said}"
        return Cause("NodeClaimNotReady", message, "", "the node provisioner")
    hint = HINTS.get(condition.reason, DEFAULT_HINT)
    return Cause(condition.reason, f"The claim {name} is not {doing}: {condition.message}", hint, "the cloud")
