"""How a new server takes the place of the old one: beside it where a second one fits, else after it.

Starting beside needs GPUs that are free. How many the nodes offer is known; what foreign pods take of them is not, so a
new pod that the scheduler turns down takes the permission back: the old server then makes room for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.api.conditions import find
from kaito.api.core import Node, Pod
from kaito.workspace.explain.nodes import cause_of_node, whole
from kaito.workspace.names import LABEL_ROLE, ROLE_SERVE
from kaito.workspace.observe import Observed
from kaito.workspace.render.pods import GPU_DOMAINS, Placement


def fits_beside(observed: Observed, placement: Placement) -> bool:
    """Whether a second server of a preset has a place, as far as is known. One without GPUs says not what it takes."""
    return _is_free_of(observed, placement.node_selector, placement.limits, without_gpus=False)


def template_fits_beside(observed: Observed, placement: Placement, template: Mapping[str, Any]) -> bool:
    """The same for the user's own template, which says what it takes; one without GPUs is for the scheduler alone."""
    containers = (template.get("spec") or {}).get("containers") or []
    wanted: dict[str, str] = {}
    for container in containers:
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if name.startswith(GPU_DOMAINS):
                wanted[name] = str(whole(wanted.get(name, 0)) + whole(amount))
    return _is_free_of(observed, placement.node_selector, wanted, without_gpus=True)


def _is_free_of(
    observed: Observed, selector: Mapping[str, str], wanted: Mapping[str, str], *, without_gpus: bool
) -> bool:
    if any(_is_turned_down(pod) for pod in observed.pods_of(LABEL_ROLE, ROLE_SERVE)):
        return False
    if not wanted:
        return without_gpus
    places = [_places(node, wanted) for node in observed.nodes if _is_usable(observed, node, selector)]
    return sum(places) > 1


def _is_usable(observed: Observed, node: Node, selector: Mapping[str, str]) -> bool:
    return (
        selector.items() <= node.metadata.labels.items()
        and node.metadata.name not in observed.busy_nodes
        and node.metadata.deletionTimestamp is None
        and not node.spec.unschedulable
        and cause_of_node(node, "", 0, observed.now) is None
    )


def _places(node: Node, wanted: Mapping[str, str]) -> int:
    return min(whole(node.status.allocatable.get(name, 0)) // max(1, whole(amount)) for name, amount in wanted.items())


def _is_turned_down(pod: Pod) -> bool:
    scheduled = find(pod.status.conditions, "PodScheduled")
    is_going = pod.metadata.deletionTimestamp is not None
    return (
        not is_going and scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable"
    )
