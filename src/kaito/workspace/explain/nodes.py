"""What a node says: whether it is ready, whether its GPUs are offered, whether it is under pressure."""

from __future__ import annotations

from datetime import datetime

from kaito.api.conditions import find, parse_timestamp
from kaito.api.core import Node
from kaito.workspace.causes import Cause

PRESSURES = {"DiskPressure": "disk", "MemoryPressure": "memory", "PIDPressure": "process"}
LEAVING = frozenset(
    {
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "cloud.google.com/impending-node-termination",
        "aws-node-termination-handler/spot-itn",
        "kubernetes.azure.com/spot-eviction",
        "node.cloudprovider.kubernetes.io/shutdown",
    }
)
"""Taints of nodes that somebody takes away, a spot machine that is reclaimed among them."""


def cause_of_node(node: Node, gpu_resource: str, gpus: int, now: datetime, *, patience: float = 0.0) -> Cause | None:
    """Why the node cannot be used, None when it can. It may have been not ready for up to `patience` seconds."""
    name = node.metadata.name
    ready = find(node.status.conditions, "Ready")
    if ready is None or ready.status != "True":
        if ready and patience and ready.lastTransitionTime and _age(ready.lastTransitionTime, now) < patience:
            return None
        said = f": {ready.message}" if ready and ready.message else ""
        hint = f"See `kubectl describe node {name}`."
        return Cause("NodeNotReady", f"The node {name} is not ready{said}", hint, "the node")
    leaving = next((taint for taint in node.spec.taints if taint.key in LEAVING), None)
    if leaving is not None:
        message = f"The node {name} is being taken away ({leaving.key})"
        return Cause("NodeDisrupted", message, "Another node takes its place by itself.", "the node provisioner")
    pressed = next((c for c in node.status.conditions if c.type in PRESSURES and c.status == "True"), None)
    if pressed is not None:
        message = f"The node {name} is under {PRESSURES[pressed.type]} pressure: {pressed.message}"
        return Cause(f"Node{pressed.type}", message, "Free some of it, or use a larger node.", "the node")
    offered = whole(node.status.allocatable.get(gpu_resource, 0))
    if gpus and offered < gpus:
        message = f"The node {name} offers {offered} {gpu_resource}, {gpus} are needed"
        hint = "See that the GPU's device plugin runs on the node."
        return Cause("NodePluginsNotReady", message, hint, "the GPU's device plugin")
    return None


def whole(amount: str | int) -> int:
    """A quantity of a countable resource as a number; 0 for what is not one."""
    text = str(amount)
    return int(text) if text.isdigit() else 0


def _age(since: str, now: datetime) -> float:
    return (now - parse_timestamp(since)).total_seconds()
