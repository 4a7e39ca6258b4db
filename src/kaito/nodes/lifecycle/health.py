"""Health: a node that is deleted by hand takes its claim along; one that stays unready is replaced.

A claim whose instance is gone from a complete list of the cloud, and whose node is not ready, is deleted too: its owner
makes a new one.
"""

from __future__ import annotations

from collections.abc import Sequence

from kaito.api.conditions import find, parse_timestamp, timestamp
from kaito.api.core import Node
from kaito.api.meta import Condition
from kaito.nodes.claim import ANNOTATION_TERMINATION_TIME, INITIALIZED, LAUNCHED
from kaito.nodes.lifecycle.world import (
    Announce,
    DeleteClaim,
    Observed,
    PatchClaim,
    Step,
    seconds_until,
)


def plan_health(seen: Observed, conditions: Sequence[Condition]) -> Step:
    deleted = [node for node in seen.nodes if node.metadata.deletionTimestamp is not None]
    if deleted:
        message = f"node {deleted[0].metadata.name} was deleted, so its machine goes too"
        return Step(actions=(Announce("Normal", "NodeDeleted", message), DeleteClaim("NodeDeleted", message)))
    if _is_instance_lost(seen):
        message = f"the instance {seen.claim.name} is gone from the cloud and its node is not ready"
        return Step(actions=(Announce("Warning", "InstanceGone", message), DeleteClaim("InstanceGone", message)))
    initialized = next(c for c in conditions if c.type == INITIALIZED)
    if initialized.status == "True" and seen.policy.repair:
        return _plan_repair(seen, seen.nodes[0])
    return Step()


def _is_instance_lost(seen: Observed) -> bool:
    was_there = seen.claim.is_true(LAUNCHED) and seen.instances_known
    return was_there and seen.instance is None and not any(is_ready(node) for node in seen.nodes)


def is_ready(node: Node) -> bool:
    ready = find(node.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def _plan_repair(seen: Observed, node: Node) -> Step:
    ready = find(node.status.conditions, "Ready")
    if ready is None or ready.status == "True" or ready.lastTransitionTime is None:
        return Step()
    limit = seen.policy.unhealthy_after
    deadline = parse_timestamp(ready.lastTransitionTime) + limit
    if seen.now < deadline:
        return Step(requeue_after=seconds_until(deadline, seen.now))
    message = f"node {node.metadata.name} has not been ready for {limit.total_seconds() / 60:g} minutes; it is replaced"
    # A dead kubelet ends no pods: the drain is given no time at all.
    at_once = PatchClaim({"annotations": {ANNOTATION_TERMINATION_TIME: timestamp(seen.now)}})
    return Step(actions=(Announce("Warning", "NodeUnhealthy", message), at_once, DeleteClaim("NodeUnhealthy", message)))
