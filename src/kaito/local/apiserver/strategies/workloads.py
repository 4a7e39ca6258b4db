"""Deployment, ReplicaSet, StatefulSet, DaemonSet and Job: defaults, and what may not change."""

from __future__ import annotations

from kaito.local.apiserver.strategies.base import FieldCauses, GenerationStrategy, child, immutable, set_default
from kaito.local.apiserver.strategies.pods import default_pod_spec
from kaito.local.machinery.errors import FieldCause, compact
from kaito.local.store.records import Object

UID_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")
NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")


class WorkloadStrategy(GenerationStrategy):
    """A pod template under a selector that must match it and never changes."""

    def default(self, obj: Object) -> None:
        spec = child(obj, "spec")
        template = child(spec, "template")
        set_default(template, "metadata", {})
        default_pod_spec(child(template, "spec"))

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        spec = obj.get("spec") or {}
        causes = _selector_causes(spec)
        if not ((spec.get("template") or {}).get("spec") or {}).get("containers"):
            causes.append(FieldCause("spec.template.spec.containers", "Required value", "FieldValueRequired"))
        if old is not None:
            causes += immutable("spec.selector", spec.get("selector"), (old.get("spec") or {}).get("selector"))
        return causes


class DeploymentStrategy(WorkloadStrategy):
    """Its annotations are counted with its spec."""

    def counted(self, obj: Object) -> Object:
        return {**super().counted(obj), "annotations": obj["metadata"].get("annotations") or None}

    def default(self, obj: Object) -> None:
        super().default(obj)
        spec = obj["spec"]
        set_default(spec, "replicas", 1)
        set_default(spec, "revisionHistoryLimit", 10)
        set_default(spec, "progressDeadlineSeconds", 600)
        strategy = child(spec, "strategy")
        set_default(strategy, "type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = child(strategy, "rollingUpdate")
            set_default(rolling, "maxUnavailable", "25%")
            set_default(rolling, "maxSurge", "25%")

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        causes = super().validate(obj, old)
        strategy = obj["spec"].get("strategy") or {}
        if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate") is not None:
            message = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
            causes.append(FieldCause("spec.strategy.rollingUpdate", message, "FieldValueForbidden"))
        return causes


class ReplicaSetStrategy(WorkloadStrategy):
    def default(self, obj: Object) -> None:
        super().default(obj)
        set_default(obj["spec"], "replicas", 1)


class StatefulSetStrategy(WorkloadStrategy):
    def default(self, obj: Object) -> None:
        super().default(obj)
        spec = obj["spec"]
        set_default(spec, "replicas", 1)
        set_default(spec, "podManagementPolicy", "OrderedReady")
        set_default(spec, "revisionHistoryLimit", 10)
        strategy = child(spec, "updateStrategy")
        set_default(strategy, "type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            set_default(child(strategy, "rollingUpdate"), "partition", 0)
        retention = child(spec, "persistentVolumeClaimRetentionPolicy")
        set_default(retention, "whenDeleted", "Retain")
        set_default(retention, "whenScaled", "Retain")
        for template in spec.get("volumeClaimTemplates") or []:
            set_default(template, "apiVersion", "v1")
            set_default(template, "kind", "PersistentVolumeClaim")
            set_default(child(template, "spec"), "volumeMode", "Filesystem")
            set_default(child(template, "status"), "phase", "Pending")


class DaemonSetStrategy(WorkloadStrategy):
    def default(self, obj: Object) -> None:
        super().default(obj)
        spec = obj["spec"]
        set_default(spec, "revisionHistoryLimit", 10)
        strategy = child(spec, "updateStrategy")
        set_default(strategy, "type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            set_default(child(strategy, "rollingUpdate"), "maxUnavailable", 1)
            set_default(strategy["rollingUpdate"], "maxSurge", 0)


class CronJobStrategy(GenerationStrategy):
    def default(self, obj: Object) -> None:
        spec = child(obj, "spec")
        set_default(spec, "suspend", False)
        template = child(child(child(spec, "jobTemplate"), "spec"), "template")
        default_pod_spec(child(template, "spec"))


class JobStrategy(WorkloadStrategy):
    """Its selector is its own uid, unless `manualSelector` says otherwise.

    A delete that does not say what becomes of its pods leaves them, as batch/v1 always did.
    """

    default_propagation = "Orphan"

    def default(self, obj: Object) -> None:
        super().default(obj)
        spec = obj["spec"]
        labels = (spec["template"].get("metadata") or {}).get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)
        set_default(spec, "manualSelector", False)
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = 1
        set_default(spec, "parallelism", 1)
        set_default(spec, "backoffLimit", 6)
        set_default(spec, "completionMode", "NonIndexed")
        set_default(spec, "suspend", False)
        set_default(spec, "podReplacementPolicy", "TerminatingOrFailed")

    def prepare_create(self, obj: Object) -> None:
        spec, metadata = obj["spec"], obj["metadata"]
        if spec.get("manualSelector"):
            return
        labels = child(child(spec["template"], "metadata"), "labels")
        labels.update(dict.fromkeys(UID_LABELS, metadata["uid"]))
        labels.update(dict.fromkeys(NAME_LABELS, metadata.get("name") or ""))
        # In Kubernetes a Job without labels shares those of its template, and so gets these too.
        own = metadata.get("labels") or {}
        if own.items() <= labels.items():
            metadata["labels"] = dict(labels)
        spec["selector"] = {"matchLabels": {UID_LABELS[0]: metadata["uid"]}}

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        causes = super().validate(obj, old)
        spec = obj["spec"]
        policy = spec["template"]["spec"].get("restartPolicy")
        if policy not in ("Never", "OnFailure"):
            message = 'Required value: valid values: "OnFailure", "Never"'
            causes.append(FieldCause("spec.template.spec.restartPolicy", message, "FieldValueRequired"))
        causes += _completion_causes(spec)
        if old is not None:
            before = old["spec"]
            # A suspended job's template may be mended; a running one's may not.
            if not before.get("suspend"):
                causes += immutable("spec.template", spec.get("template"), before.get("template"))
            for field in ("completions", "completionMode"):
                causes += immutable(f"spec.{field}", spec.get(field), before.get(field))
        return causes


def _completion_causes(spec: Object) -> FieldCauses:
    """What the completion mode needs; and refused in words what the Job controller of this machine does not have."""
    causes: FieldCauses = []
    if spec["completionMode"] not in ("Indexed", "NonIndexed"):
        message = f'Unsupported value: "{spec["completionMode"]}": supported values: "Indexed", "NonIndexed"'
        causes.append(FieldCause("spec.completionMode", message, "FieldValueNotSupported"))
    elif spec["completionMode"] == "Indexed" and spec.get("completions") is None:
        message = "Required value: when completion mode is Indexed"
        causes.append(FieldCause("spec.completions", message, "FieldValueRequired"))
    for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
        if spec.get(field) is not None:
            message = "Forbidden: this control plane does not run Jobs with it; leave it out"
            causes.append(FieldCause(f"spec.{field}", message, "FieldValueForbidden"))
    return causes


def _selector_causes(spec: Object) -> FieldCauses:
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    message = f"Invalid value: {compact(labels)}: `selector` does not match template `labels`"
    unmatched = FieldCause("spec.template.metadata.labels", message)
    if selector is None:
        return [FieldCause("spec.selector", "Required value", "FieldValueRequired"), unmatched]
    wanted = selector.get("matchLabels") or {}
    if not wanted and not selector.get("matchExpressions"):
        message = f"Invalid value: {compact(selector)}: empty selector is invalid for deployment"
        return [FieldCause("spec.selector", message)]
    return [unmatched] if any((labels or {}).get(name) != value for name, value in wanted.items()) else []
