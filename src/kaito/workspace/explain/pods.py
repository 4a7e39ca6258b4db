"""What a pod says: the deepest cause among its conditions, its containers, and the last words of the step in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from kaito.api.conditions import find, parse_timestamp
from kaito.api.core import ContainerStateTerminated, ContainerStatus, Pod
from kaito.workspace.causes import Cause
from kaito.workspace.progress import Progress

USER_ERROR = 2
"""The exit code of a step whose input is wrong, so that no retry helps."""
IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS = frozenset({"CreateContainerConfigError"})
START_REASONS = frozenset({"CreateContainerError", "RunContainerError", "StartError"})
OUT_OF_MEMORY = frozenset({"ContainerOOMKilled", "GpuOutOfMemory", "OutOfGpuMemory", "GPUOutOfMemory"})
QUIET_WAITS = frozenset({"", "PodInitializing", "ContainerCreating"})


class LastWords(msgspec.Struct, frozen=True):
    """The termination message of a step: an error's `reason, message, hint`, or what `publish` made."""

    reason: str = ""
    message: str = ""
    hint: str = ""
    image: str = ""
    digest: str = ""
    evalLoss: float | None = None
    baseEvalLoss: float | None = None
    perplexity: float | None = None
    basePerplexity: float | None = None
    exactMatch: float | None = None
    baseExactMatch: float | None = None
    scoredOn: str = ""


def last_words(terminated: ContainerStateTerminated) -> LastWords:
    """The step's JSON, or what else is there as the message."""
    text = terminated.message.strip()
    lines = text.splitlines()
    for candidate in (text, lines[-1] if lines else ""):
        try:
            return msgspec.json.decode(candidate, type=LastWords)
        except msgspec.DecodeError:
            continue
    return LastWords(message=lines[-1] if lines else "")


def containers(pod: Pod) -> Iterable[ContainerStatus]:
    return (*pod.status.initContainerStatuses, *pod.status.containerStatuses)


def user_error(pods: Iterable[Pod]) -> tuple[str, Cause] | None:
    """The step that ended with "your input is wrong", and what it said."""
    for pod in pods:
        for status in containers(pod):
            for state in (status.state, status.lastState):
                if state.terminated and state.terminated.exitCode == USER_ERROR:
                    return status.name, _cause_of_exit(status.name, state.terminated, status.restartCount)
    return None


def cause_of_pod(pod: Pod, progress: Progress | None, estimate: str = "") -> Cause:
    """Why a pod is not ready (or, for a tuning pod, not done). Call it only for such pods.

    `estimate` is what was thought that the model needs, in words: it is shown beside an out-of-memory.
    """
    status = pod.status
    cause = _cause_of_eviction(pod)
    if cause is not None:
        return cause
    scheduled = find(status.conditions, "PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        hint = "Compare the pod's node selector and GPU request with the nodes."
        return Cause("Unschedulable", f"The pod fits no node: {scheduled.message}", hint, "the scheduler")
    for container in containers(pod):
        cause = _cause_of_container(container)
        if cause is not None:
            beside = estimate and cause.reason in OUT_OF_MEMORY
            return replace(cause, message=f"{cause.message} (estimate: {estimate})") if beside else cause
    if status.phase == "Failed":
        return Cause("PodFailed", f"The pod failed: {status.message or status.reason}", "", "the controller")
    return _at_work(pod, progress)


def cause_of_refused_pods(message: str) -> Cause | None:
    """Of a workload without pods: who does not let them be made."""
    if not message:
        return None
    hint = "See the namespace's quota and limits, and the admission of pods."
    return Cause("PodsNotCreated", f"The pod cannot be made: {message}", hint, "you")


def _cause_of_eviction(pod: Pod) -> Cause | None:
    status = pod.status
    if status.reason == "Evicted":
        hint = "Free the node's disk or memory, or use a larger node."
        return Cause("PodEvicted", f"The pod was evicted: {status.message}", hint, "the node")
    disrupted = find(status.conditions, "DisruptionTarget")
    if disrupted is None or disrupted.status != "True":
        return None
    message = f"The pod is being taken off its node: {disrupted.message or disrupted.reason}"
    return Cause("PodDisrupted", message, "Another node takes its place by itself.", "the node")


def _cause_of_container(status: ContainerStatus) -> Cause | None:
    ended = status.state.terminated
    if ended is not None:
        return _cause_of_exit(status.name, ended, status.restartCount) if ended.exitCode else None
    waiting = status.state.waiting
    if waiting is None:
        return _cause_of_restart(status)
    if waiting.reason in IMAGE_REASONS:
        hint = "Check the image's name, and the pull secret if it is private."
        said = waiting.message or waiting.reason
        return Cause("ImagePullError", f"The image of {status.name} cannot be pulled: {said}", hint, "the registry")
    if waiting.reason in CONFIG_REASONS:
        hint = "Create the Secret or ConfigMap, with that key."
        return Cause("ContainerConfigError", f"{status.name} cannot be set up: {waiting.message}", hint, "you")
    if waiting.reason in START_REASONS:
        return Cause("ContainerStartError", f"{status.name} cannot be started: {waiting.message}", "", "the node")
    if status.lastState.terminated is not None and status.lastState.terminated.exitCode:
        return _cause_of_exit(status.name, status.lastState.terminated, status.restartCount)
    if waiting.reason not in QUIET_WAITS:
        return Cause(waiting.reason, f"{status.name} waits: {waiting.message or waiting.reason}", "", "the node")
    return None


def _cause_of_restart(status: ContainerStatus) -> Cause | None:
    """A running container that is not ready and has crashed before is shown with what it died of."""
    ended = status.lastState.terminated
    if status.ready or ended is None or not ended.exitCode:
        return None
    return _cause_of_exit(status.name, ended, status.restartCount)


def _cause_of_exit(name: str, ended: ContainerStateTerminated, restarts: int) -> Cause:
    if ended.reason == "OOMKilled":
        hint = "Use a machine with more memory, or a smaller batch or context."
        return Cause("ContainerOOMKilled", f"{name} ran out of the machine's memory", hint, "you")
    words = last_words(ended)
    again = f" ({restarts} restart(s))" if restarts else ""
    said = words.message or f"it ended with exit code {ended.exitCode}"
    reason = words.reason or ("ContainerCrashLoopBackOff" if restarts else "ContainerFailed")
    is_final = ended.exitCode == USER_ERROR
    return Cause(reason, f"{name}: {said}{again}", words.hint, "you" if is_final else "the runtime", is_final)


def _at_work(pod: Pod, progress: Progress | None) -> Cause:
    """Nothing is wrong: what the pod does. Kept to few words that change seldom, since each change is a write."""
    if progress is not None and progress.state == "Waiting":
        reason = progress.reason or "Waiting"
        said = f"{progress.step}: {progress.message}" if progress.step else progress.message
        return Cause(reason, said, progress.hint, "you")
    mute = next((c for c in pod.status.containerStatuses if c.name == "serve" and c.started and not c.ready), None)
    if mute is not None and not _is_first_look(pod, mute):
        hint = "See `kubectl logs` of the pod; the server is restarted when this lasts."
        return Cause("ServerNotAnswering", "The server runs but does not answer its health check", hint, "the runtime")
    running = next((c.name for c in containers(pod) if c.state.running), "")
    if any(c.name == "serve" for c in pod.status.containerStatuses) and (running or _has_begun(pod)):
        running = "serve"
    reason, message = _DOING.get(running, ("PodStarting", "The pod is being started"))
    return Cause(reason, message, "", "the runtime")


def _is_first_look(pod: Pod, server: ContainerStatus) -> bool:
    """The server has started and its readiness was never found yet: not ready since before it ran."""
    ready = find(pod.status.conditions, "Ready")
    since, started = ready and ready.lastTransitionTime, server.state.running and server.state.running.startedAt
    return bool(since and started and parse_timestamp(since) <= parse_timestamp(started))


def _has_begun(pod: Pod) -> bool:
    return any(container.state.terminated for container in containers(pod))


_DOING = {
    "data": ("PreparingData", "The data is being fetched and checked"),
    "model": ("ModelLoading", "The weights are being fetched"),
    "tune": ("Training", "The model is being trained"),
    "publish": ("Publishing", "The adapter is being published"),
    "serve": ("ModelLoading", "The model is being loaded"),
}
