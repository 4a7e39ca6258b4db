"""Pods that have a node and yet do not start: only their Events say why, mostly that a volume cannot be mounted.

Asked for by the poller, pod by pod, since such pods are few and a watch on all Events of a cluster would cost more.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from kaito.api.conditions import find, parse_timestamp
from kaito.api.core import Pod
from kaito.kube.client import Client
from kaito.workspace.kinds import EVENT_OUTLINES, EventOutline
from kaito.workspace.progress import Progress

PATIENCE = timedelta(seconds=30)
"""Longer than a pod needs to be set up, images apart: those are pulled without a warning."""
FRESH = timedelta(minutes=5)
"""A kubelet repeats its warnings every two minutes or so while they hold."""
HINTS = {
    "FailedMount": "See that the volume's Secret, ConfigMap or claim is there and can be mounted on that node.",
    "FailedAttachVolume": "See that the volume is in the node's zone and not attached to another node.",
    "FailedCreatePodSandBox": "See the node's container runtime and network plugin.",
}


def is_stuck(pod: Pod, now: datetime) -> bool:
    """It was given a node a while ago, and none of its containers has ever been more than waiting."""
    status = pod.status
    if status.phase != "Pending" or pod.metadata.deletionTimestamp:
        return False  # the most of thousands, so nothing is done before
    scheduled = find(status.conditions, "PodScheduled")
    if scheduled is None or scheduled.status != "True":
        return False
    containers = (*status.initContainerStatuses, *status.containerStatuses)
    if any(c.state.running or c.state.terminated or c.lastState.terminated for c in containers):
        return False
    return _age(scheduled.lastTransitionTime, now) > PATIENCE


async def warning_of(client: Client, pod: Pod, now: datetime) -> Progress | None:
    """The last warning about the pod, as what it says of itself; None where there is no fresh one. Raises KubeError."""
    fields = f"involvedObject.name={pod.metadata.name},type=Warning"
    listing = await client.list(EVENT_OUTLINES, pod.metadata.namespace, fields=fields)
    found = [event for event, _ in listing.items if event.reason in HINTS and _is_fresh(event, pod, now)]
    if not found:
        return None
    last = max(found, key=lambda event: event.lastTimestamp or "")
    return Progress(state="Waiting", reason=last.reason, message=last.message, hint=HINTS[last.reason])


def _is_fresh(event: EventOutline, pod: Pod, now: datetime) -> bool:
    return event.involvedObject.uid == pod.metadata.uid and _age(event.lastTimestamp, now) < FRESH


def _age(since: str | None, now: datetime) -> timedelta:
    return now - parse_timestamp(since) if since else timedelta()
