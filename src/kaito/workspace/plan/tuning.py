"""The training: one Job, made when its nodes and inputs are there, read until it is done, never repeated without need.

What was trained is remembered in the status by the hash of what it was made from. While that hash holds, the adapter
stands for the spec, whether the Job is still there or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from kaito.api.conditions import find, is_true, timestamp
from kaito.api.core import Job, Pod
from kaito.api.meta import Condition
from kaito.api.workspace import (
    ANNOTATION_CHECKPOINT_IMAGE,
    ANNOTATION_HASH,
    TunedAdapter,
    Tuning,
    TuningStatus,
    Workspace,
)
from kaito.kube.resources import DEPLOYMENTS, JOBS
from kaito.workspace.actions import Action, Create, Delete, Patch
from kaito.workspace.causes import ROUTINE, Cause
from kaito.workspace.explain.pods import LastWords, cause_of_pod, cause_of_refused_pods, last_words, user_error
from kaito.workspace.names import ANNOTATION_STOPPED, LABEL_ROLE, ROLE_SERVE, ROLE_TUNE, digest
from kaito.workspace.observe import Observed
from kaito.workspace.plan.inputs import Inputs
from kaito.workspace.plan.nodes import NodePlan
from kaito.workspace.plan.sizing import Sizing
from kaito.workspace.progress import Progress
from kaito.workspace.references import data_secret
from kaito.workspace.render.job import render_job


@dataclass(frozen=True)
class TuningPlan:
    actions: tuple[Action, ...]
    conditions: tuple[Condition, ...]
    status: TuningStatus
    is_done: bool = False
    is_failed: bool = False
    is_running: bool = False
    cause: Cause | None = None
    """Why it is not done; None when it is."""


def trained_hash(workspace: Workspace, config_text: str) -> str:
    """Of what decides the adapter. Secrets are left out: credentials that change do not change what was learnt.

    So are defaults: a new version of the suite, or of its ConfigMaps, trains nothing again that nobody asked for.
    """
    tuning = _tuning(workspace)
    source, output, preset = tuning.input, tuning.output, tuning.preset
    assert source is not None
    assert output is not None
    assert preset is not None
    return digest(
        {
            "preset": [preset.name, preset.presetOptions.image],
            "method": tuning.method.lower(),
            "config": config_text if tuning.config else "",
            "input": [source.urls, source.image, source.volumeSource],
            "output": [output.image, output.volumeSource],
        }
    )


def job_hash(workspace: Workspace, config_text: str) -> str:
    """Of all that the Job's pod is made from and cannot take up while it runs, names of Secrets included."""
    tuning = _tuning(workspace)
    preset, source, output = tuning.preset, tuning.input, tuning.output
    secrets = [
        preset.presetOptions.modelAccessSecret if preset else "",
        preset.presetOptions.imagePullSecrets if preset else [],
        source.imagePullSecrets if source else [],
        output.imagePushSecret if output else "",
    ]
    added = [data_secret(workspace), workspace.metadata.annotations.get(ANNOTATION_CHECKPOINT_IMAGE, "")]
    parts: list[Any] = [trained_hash(workspace, config_text), secrets, workspace.resource.instanceType]
    # Only where they are set: the Jobs of an earlier release, which knew neither, must not start again.
    return digest([*parts, added] if any(added) else parts)


def plan_tuning(observed: Observed, inputs: Inputs, sizing: Sizing, nodes: NodePlan) -> TuningPlan:
    """For a Workspace whose inputs are valid; `inputs.missing` may still name a Secret."""
    wanted = trained_hash(observed.workspace, inputs.config_text)
    before = observed.workspace.status.tuning or TuningStatus()
    if before.specHash == wanted and before.finishedAt:
        return _done(before, ())
    job = observed.job
    if job is None or job.metadata.deletionTimestamp is not None:
        return _start(observed, inputs, sizing, nodes)
    if ANNOTATION_HASH not in job.metadata.annotations:
        return _of_earlier_kaito(observed, job, wanted)
    if job.metadata.annotations.get(ANNOTATION_HASH) != job_hash(observed.workspace, inputs.config_text):
        cause = Cause("Replacing", "What is to be trained has changed; the earlier Job is being removed")
        return _waiting(cause, TuningStatus(), (Delete(JOBS, job.metadata.namespace, job.metadata.name),))
    pods = [pod for pod in observed.pods_of(LABEL_ROLE, ROLE_TUNE) if pod.metadata.deletionTimestamp is None]
    if is_true(job.status.conditions, "Complete"):
        return _finish(observed, job, pods, wanted)
    return _follow(observed, job, pods, sizing)


def _tuning(workspace: Workspace) -> Tuning:
    assert workspace.tuning is not None
    return workspace.tuning


def _start(observed: Observed, inputs: Inputs, sizing: Sizing, nodes: NodePlan) -> TuningPlan:
    """Make the Job once nothing is missing and no server of ours holds the GPU."""
    if observed.job is not None:
        return _waiting(Cause("Replacing", "The earlier Job is being removed"), TuningStatus())
    cause = sizing.cause or inputs.missing or nodes.cause
    if cause is not None:
        return _waiting(cause, TuningStatus())
    namespace = observed.workspace.metadata.namespace
    if observed.deployment is not None:
        stop = Delete(DEPLOYMENTS, namespace, observed.deployment.metadata.name, observed.deployment.metadata.uid)
        return _waiting(Cause("ServerStopping", "The server makes room for a new training"), TuningStatus(), (stop,))
    if any(pod.status.phase not in ("Succeeded", "Failed") for pod in observed.pods_of(LABEL_ROLE, ROLE_SERVE)):
        return _waiting(Cause("ServerStopping", "The server makes room for a new training"), TuningStatus())
    waiting = Cause("WorkspaceTuningJobStatusPending", "The tuning Job is being made")
    return _waiting(waiting, TuningStatus(), (Create(JOBS, namespace, _job(observed, inputs, sizing, nodes)),))


def _job(observed: Observed, inputs: Inputs, sizing: Sizing, nodes: NodePlan) -> dict[str, Any]:
    workspace = observed.workspace
    preset = _tuning(workspace).preset
    assert preset is not None
    assert sizing.model is not None
    return render_job(
        workspace,
        preset,
        sizing.model,
        observed.settings.runtime_image,
        nodes.placement,
        job_hash(workspace, inputs.config_text),
        observed.settings.allow_data_from,
    )


def _follow(observed: Observed, job: Job, pods: list[Pod], sizing: Sizing) -> TuningPlan:
    """A Job that is not complete: running, stopped by us, or failed."""
    status = _progress(observed, pods)
    stopped = job.metadata.annotations.get(ANNOTATION_STOPPED)
    if stopped is not None:
        cause = msgspec.convert(msgspec.json.decode(stopped), Cause)
        return _failed(cause, status)
    wrong = user_error(pods)
    if wrong is not None:
        _, cause = wrong
        return _failed(cause, status, (_stop(job, cause),))
    if any(is_true(job.status.conditions, kind) for kind in ("Failed", "FailureTarget")):
        return _failed(_cause_of_failure(observed, job, sizing), status)
    alive = [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")]
    if not pods:
        making = Cause("WorkspaceTuningJobStatusPending", "The tuning pod is being made")
        return _waiting(cause_of_refused_pods(observed.refusal_of("Job")) or making, status)
    pod = (alive or pods)[-1]
    cause = cause_of_pod(pod, observed.progress.get(pod.metadata.uid), sizing.words)
    if pod.status.phase == "Succeeded":
        cause = Cause("Publishing", "The adapter has been published; the Job is about to end")
    started = Condition("JobStarted", "True", "WorkspaceTuningJobStatusStarted", "The tuning Job has started.")
    pending = Condition("TuningSucceeded", "False", cause.reason, cause.text)
    has_started = any(c.state.running or c.state.terminated for c in pod.status.initContainerStatuses)
    if not has_started and not pod.status.containerStatuses:
        started = Condition("JobStarted", "False", cause.reason, cause.text)
    return TuningPlan((), (started, pending), status, is_running=True, cause=cause)


def _of_earlier_kaito(observed: Observed, job: Job, wanted: str) -> TuningPlan:
    """What it has trained stands, and what it is training goes on: hours of a GPU are not thrown away."""
    if is_true(job.status.conditions, "Complete"):
        return _finish(observed, job, [], wanted)
    if is_true(job.status.conditions, "Failed"):
        cause = Cause("Replacing", "The failed Job of an earlier KAITO is being removed")
        return _waiting(cause, TuningStatus(), (Delete(JOBS, job.metadata.namespace, job.metadata.name),))
    return _waiting(Cause("Training", "A Job of an earlier KAITO is training"), TuningStatus())


def _stop(job: Job, cause: Cause) -> Patch:
    """Suspending deletes the pods and their messages, so the cause goes into the same patch."""
    kept = msgspec.json.encode(cause).decode()
    body = {"metadata": {"annotations": {ANNOTATION_STOPPED: kept}}, "spec": {"suspend": True}}
    return Patch(JOBS, job.metadata.namespace, job.metadata.name, body)


def _cause_of_failure(observed: Observed, job: Job, sizing: Sizing) -> Cause:
    """What the last pod said. A Job that gives up deletes it, so what the status says of it since then holds on."""
    again = f"Mend it, then `kubectl delete job {job.metadata.name}`: the training starts again."
    pods = observed.pods_of(LABEL_ROLE, ROLE_TUNE)
    if pods:
        found = cause_of_pod(pods[-1], observed.progress.get(pods[-1].metadata.uid), sizing.words)
        if found.reason not in ROUTINE:
            return Cause(found.reason, found.message, found.hint or again, "you", is_final=True)
    told = find(observed.workspace.status.conditions, "TuningSucceeded")
    if told is not None and told.status == "False" and told.reason not in ROUTINE:
        message = told.message if again in told.message else f"{told.message} {again}"
        return Cause(told.reason, message, "", "you", is_final=True)
    failed = find(job.status.conditions, "Failed")
    message = failed.message if failed else "The tuning Job failed"
    return Cause(failed.reason if failed else "JobFailed", f"The tuning Job failed: {message}", again, "you", True)


def _finish(observed: Observed, job: Job, pods: list[Pod], wanted: str) -> TuningPlan:
    words = _published(pods)
    if words is None and pods:
        # The Job's completion came before its pod's last status; that one is on its way.
        return _waiting(Cause("Publishing", "The adapter has been pushed"), _progress(observed, pods))
    before = _progress(observed, pods)
    words = words or LastWords()
    output = _tuning(observed.workspace).output
    adapter = None
    if output is not None and output.image:
        adapter = TunedAdapter(image=words.image or output.image, digest=words.digest)
    status = TuningStatus(
        step=before.totalSteps or before.step,
        totalSteps=before.totalSteps,
        epoch=before.epoch,
        loss=before.loss,
        evalLoss=_number(words.evalLoss) or before.evalLoss,
        baseEvalLoss=_number(words.baseEvalLoss),
        perplexity=_number(words.perplexity),
        basePerplexity=_number(words.basePerplexity),
        exactMatch=_number(words.exactMatch),
        baseExactMatch=_number(words.baseExactMatch),
        scoredOn=words.scoredOn,
        tokensPerSecond=before.tokensPerSecond,
        startedAt=before.startedAt,
        finishedAt=job.status.completionTime or timestamp(observed.now),
        specHash=wanted,
        adapter=adapter,
    )
    return _done(status, ())


def _published(pods: list[Pod]) -> LastWords | None:
    for pod in pods:
        for container in pod.status.containerStatuses:
            ended = container.state.terminated
            if container.name == "publish" and ended is not None and ended.exitCode == 0:
                return last_words(ended)
    return None


def _progress(observed: Observed, pods: list[Pod]) -> TuningStatus:
    """What the training says now, or said last."""
    before = observed.workspace.status.tuning or TuningStatus()
    if before.finishedAt:
        before = TuningStatus()
    said = [observed.progress[p.metadata.uid] for p in pods if p.metadata.uid in observed.progress]
    latest = next((p for p in reversed(said) if p.trainStep is not None), None)
    return _merge(before, latest) if latest else before


def _merge(before: TuningStatus, said: Progress) -> TuningStatus:
    return TuningStatus(
        step=said.trainStep or 0,
        totalSteps=said.totalSteps or before.totalSteps,
        epoch=_number(said.epoch, 2) or before.epoch,
        loss=_number(said.loss) or before.loss,
        evalLoss=_number(said.evalLoss) or before.evalLoss,
        tokensPerSecond=round(said.tokensPerSecond or 0) or before.tokensPerSecond,
        etaSeconds=round(said.etaSeconds or 0),
        startedAt=said.startedAt or before.startedAt,
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _done(status: TuningStatus, actions: tuple[Action, ...]) -> TuningPlan:
    where = ""
    if status.adapter is not None:
        where = f" {status.adapter.image}" + (f"@{status.adapter.digest}" if status.adapter.digest else "")
    conditions = (
        Condition("JobStarted", "True", "WorkspaceTuningJobStatusStarted", "The tuning Job has started."),
        Condition("TuningSucceeded", "True", "TuningSucceeded", f"The adapter is ready:{where or ' in the volume'}."),
    )
    return TuningPlan(actions, conditions, status, is_done=True)


def _waiting(cause: Cause, status: TuningStatus, actions: tuple[Action, ...] = ()) -> TuningPlan:
    conditions = (
        Condition("JobStarted", "False", cause.reason, cause.text),
        Condition("TuningSucceeded", "False", cause.reason, cause.text),
    )
    return TuningPlan(actions, conditions, status, cause=cause)


def _failed(cause: Cause, status: TuningStatus, actions: tuple[Action, ...] = ()) -> TuningPlan:
    conditions = (
        Condition("JobStarted", "True", "WorkspaceTuningJobStatusStarted", "The tuning Job has started."),
        Condition("TuningSucceeded", "False", cause.reason, cause.text),
    )
    return TuningPlan(actions, conditions, status, is_failed=True, cause=cause)
