"""Makes what the caches keep smaller: thousands of objects say the same few words, and much that nobody here reads.

Measured at 5,000 Workspaces, see docs/workspace.md. Objects are changed in place, right after they were decoded and
before anybody else has seen them.
"""

from __future__ import annotations

import sys
from typing import Any

from msgspec.structs import force_setattr

from kaito.api.core import Pod
from kaito.api.karpenter import ClaimSpec, NodeClaim
from kaito.api.meta import Condition, ObjectMeta, OwnerReference
from kaito.api.workspace import Workspace

OURS = "kaito.sh/"
"""Annotations are read when this is in their key: ours, and those of the kinds beside ours."""
NO_OWNERS: list[OwnerReference] = []
NOTHING: dict[str, str] = {}
NO_SPEC = ClaimSpec()


def slim(obj: Any) -> None:
    """For any object with `metadata`, and with conditions in its status if it has one."""
    _slim_metadata(obj.metadata)
    status = getattr(obj, "status", None)
    for condition in getattr(status, "conditions", ()):
        _share(condition)


def slim_workspace(workspace: Workspace) -> None:
    """Besides, one copy of the words that all Workspaces of a preset have."""
    slim(workspace)
    resource, estimate = workspace.resource, workspace.status.estimate
    force_setattr(resource, "instanceType", sys.intern(resource.instanceType))
    if estimate is not None:
        for name in ("weights", "kvCache", "overhead", "perGPU", "why"):
            force_setattr(estimate, name, sys.intern(getattr(estimate, name)))


def slim_claim(claim: NodeClaim) -> None:
    """Besides, nothing of what we asked for, nor of what the machine offers: the node says that."""
    slim(claim)
    force_setattr(claim, "spec", NO_SPEC)
    force_setattr(claim.status, "capacity", NOTHING)
    force_setattr(claim.status, "allocatable", NOTHING)


def slim_pod(pod: Pod) -> None:
    """Besides, one copy of the names that all pods have."""
    slim(pod)
    for container in (*pod.status.initContainerStatuses, *pod.status.containerStatuses):
        force_setattr(container, "name", sys.intern(container.name))
        force_setattr(container, "image", "")


def _slim_metadata(metadata: ObjectMeta) -> None:
    """No owners, no foreign annotations (the last one applied by kubectl is a second copy of the whole object)."""
    force_setattr(metadata, "ownerReferences", NO_OWNERS)
    force_setattr(metadata, "namespace", sys.intern(metadata.namespace))
    kept = {key: text for key, text in metadata.annotations.items() if OURS in key}
    force_setattr(metadata, "annotations", kept or NOTHING)
    labels = {key: sys.intern(text) for key, text in metadata.labels.items()}
    force_setattr(metadata, "labels", labels or NOTHING)


def _share(condition: Condition) -> None:
    force_setattr(condition, "type", sys.intern(condition.type))
    force_setattr(condition, "status", sys.intern(condition.status))
    force_setattr(condition, "reason", sys.intern(condition.reason))
    force_setattr(condition, "message", sys.intern(condition.message))
    if condition.lastTransitionTime is not None:
        force_setattr(condition, "lastTransitionTime", sys.intern(condition.lastTransitionTime))
