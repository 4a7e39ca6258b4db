"""What the Go types of the built-in kinds say in comments and no client model carries: list keys, patch strategies,
defaults.

Server-side apply reads `x-kubernetes-list-type` and its keys, strategic merge patch reads the patch strategy and merge
key. The values are those of the published OpenAPI documents of Kubernetes. Used only to write the data file.
"""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


QUANTITY: Final[Json] = {"oneOf": [{"type": "string"}, {"type": "number"}], "format": "quantity"}
ANY_OBJECT: Final[Json] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_ANY: Final[Json] = {"x-kubernetes-preserve-unknown-fields": True}
ALIASES: Final[dict[str, Json]] = {
    "JSON": _ANY,
    "JSONSchemaPropsOrArray": _ANY,
    "JSONSchemaPropsOrBool": _ANY,
    "JSONSchemaPropsOrStringArray": _ANY,
    "FieldsV1": ANY_OBJECT,
}

# Lists with keys: TYPE.FIELD -> keys; strategic merge uses the first.
_MAPS: Final = {
    "Container.env": "name",
    "Container.ports": "containerPort protocol",
    "Container.volumeDevices": "devicePath",
    "Container.volumeMounts": "mountPath",
    "ContainerStatus.volumeMounts": "mountPath",
    "ContainerStatus.allocatedResourcesStatus": "name",
    "EphemeralContainer.env": "name",
    "EphemeralContainer.ports": "containerPort protocol",
    "EphemeralContainer.volumeDevices": "devicePath",
    "EphemeralContainer.volumeMounts": "mountPath",
    "PodSpec.containers": "name",
    "PodSpec.initContainers": "name",
    "PodSpec.ephemeralContainers": "name",
    "PodSpec.volumes": "name",
    "PodSpec.imagePullSecrets": "name",
    "PodSpec.hostAliases": "ip",
    "PodSpec.resourceClaims": "name",
    "PodSpec.schedulingGates": "name",
    "PodSpec.topologySpreadConstraints": "topologyKey whenUnsatisfiable",
    "PodStatus.conditions": "type",
    "PodStatus.podIPs": "ip",
    "PodStatus.resourceClaimStatuses": "name",
    "ObjectMeta.ownerReferences": "uid",
    "ServiceSpec.ports": "port protocol",
    "ServiceStatus.conditions": "type",
    "ServiceAccount.secrets": "name",
    "NodeStatus.addresses": "type",
    "NodeStatus.conditions": "type",
    "NamespaceStatus.conditions": "type",
    "PersistentVolumeClaimStatus.conditions": "type",
    "DeploymentStatus.conditions": "type",
    "ReplicaSetStatus.conditions": "type",
    "StatefulSetStatus.conditions": "type",
    "DaemonSetStatus.conditions": "type",
    "PodDisruptionBudgetStatus.conditions": "type",
    "HorizontalPodAutoscalerStatus.conditions": "type",
    "CSINodeSpec.drivers": "name",
    "ValidatingWebhookConfiguration.webhooks": "name",
    "MutatingWebhookConfiguration.webhooks": "name",
    "ValidatingWebhook.matchConditions": "name",
    "MutatingWebhook.matchConditions": "name",
    "CustomResourceDefinitionStatus.conditions": "type",
    "JSONSchemaProps.x-kubernetes-validations": "rule",
    "JobSchedulingConfiguration.resourceClaims": "name",
    "PodSpec.evictionResponders": "name",
    "PodStatus.nodeAllocatableResourceClaimStatuses": "resourceClaimName",
    "NodeAllocatableResourceClaimStatus.mapping": "name",
    "NodeAllocatableResourceClaimStatus.overhead": "name",
    "CSINodeStatus.storageHealth": "name",
}
# Lists with keys for server-side apply that strategic merge replaces whole.
_MAPS_WITHOUT_MERGE: Final = {
    "ResourceRequirements.claims": "name",
    "ResourceStatus.resources": "resourceID",
    "PodStatus.volumeHealth": "name",
}
# Merged by strategic merge patch, replaced whole by server-side apply.
_MERGED_ATOMIC: Final = {"JobStatus.conditions": "type", "PodStatus.hostIPs": "ip"}
_SETS: Final = frozenset(
    {
        "ObjectMeta.finalizers",
        "NodeSpec.podCIDRs",
        "Endpoint.addresses",
        "PodFailurePolicyOnExitCodesRequirement.values",
        "VolumeMount.bindMountOptions",
        "ContainerRestartRuleOnExitCodes.values",
        "NodePodPreemptionPolicy.disableResizePreemption",
        "NodeAllocatableResourceClaimStatus.containers",
        "CSIDriverSpec.volumeLifecycleModes",
        "UncountedTerminatedPods.failed",
        "UncountedTerminatedPods.succeeded",
    }
)
_MERGED_SETS: Final = frozenset({"ObjectMeta.finalizers", "NodeSpec.podCIDRs"})
_RETAIN_KEYS: Final = frozenset({"PodSpec.volumes", "PodSpec.resourceClaims", "PodStatus.resourceClaimStatuses"})
_STRATEGIES: Final = {"DeploymentSpec.strategy": "retainKeys", "PodDisruptionBudgetSpec.selector": "replace"}
_ATOMIC_CLASSES: Final = _words(
    "LabelSelector LocalObjectReference ObjectReference TypedLocalObjectReference SecretReference SecretKeySelector "
    "ConfigMapKeySelector ObjectFieldSelector ResourceFieldSelector FileKeySelector NodeSelector NodeSelectorTerm "
    "TopologySelectorTerm ScopeSelector EndpointAddress EndpointPort RoleRef Subject OwnerReference ParamRef "
    "ServiceBackendPort EvictionResponder"
)
_ATOMIC_FIELDS: Final = frozenset({"PodSpec.nodeSelector", "ServiceSpec.selector", "ManagedFieldsEntry.fieldsV1"})

_RESOURCE_MAPS: Final = _words(
    "capacity allocatable allocatedResources limits requests hard used overhead default defaultRequest max min "
    "maxLimitRequestRatio"
)
_RESOURCE_OWNERS: Final = _words(
    "NodeStatus ContainerStatus PersistentVolumeClaimStatus PersistentVolumeSpec PodSpec PodStatus ResourceQuotaSpec "
    "ResourceQuotaStatus ResourceRequirements VolumeResourceRequirements LimitRangeItem"
)
_BYTES: Final = frozenset({"Secret.data", "ConfigMap.binaryData"})
_PROPS: Final = {"$ref": "#/$defs/io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"}
_VALUES: Final[dict[str, Json]] = {
    "PodDisruptionBudgetStatus.disruptedPods": {"type": "string", "format": "date-time"},
    "UserInfo.extra": {"type": "array", "items": {"type": "string"}},
    "SubjectAccessReviewSpec.extra": {"type": "array", "items": {"type": "string"}},
    "JSONSchemaProps.properties": _PROPS,
    "JSONSchemaProps.patternProperties": _PROPS,
    "JSONSchemaProps.definitions": _PROPS,
    "JSONSchemaProps.dependencies": _ANY,
}
_ENUMS: Final = {
    "PodSpec.restartPolicy": "Always OnFailure Never",
    "ServiceSpec.type": "ClusterIP ExternalName LoadBalancer NodePort",
    "ContainerPort.protocol": "SCTP TCP UDP",
    "ServicePort.protocol": "SCTP TCP UDP",
    "Container.imagePullPolicy": "Always IfNotPresent Never",
    "DeploymentStrategy.type": "Recreate RollingUpdate",
    "CustomResourceDefinitionSpec.scope": "Cluster Namespaced",
}

# Defaults that depend on nothing else; the others are in `builtin_defaults`.
_DEFAULTS: Final[dict[str, Any]] = {
    "PodSpec.restartPolicy": "Always",
    "PodSpec.dnsPolicy": "ClusterFirst",
    "PodSpec.schedulerName": "default-scheduler",
    "PodSpec.terminationGracePeriodSeconds": 30,
    "Container.terminationMessagePath": "/dev/termination-log",
    "Container.terminationMessagePolicy": "File",
    "ContainerPort.protocol": "TCP",
    "Probe.timeoutSeconds": 1,
    "Probe.periodSeconds": 10,
    "Probe.successThreshold": 1,
    "Probe.failureThreshold": 3,
    "HTTPGetAction.scheme": "HTTP",
    "HTTPGetAction.path": "/",
    "ObjectFieldSelector.apiVersion": "v1",
    "SecretVolumeSource.defaultMode": 420,
    "ConfigMapVolumeSource.defaultMode": 420,
    "ProjectedVolumeSource.defaultMode": 420,
    "DownwardAPIVolumeSource.defaultMode": 420,
    "ServiceAccountTokenProjection.expirationSeconds": 3600,
    "ServiceSpec.type": "ClusterIP",
    "ServiceSpec.sessionAffinity": "None",
    "ServicePort.protocol": "TCP",
    "EndpointPort.protocol": "TCP",
    "Secret.type": "Opaque",
    "PersistentVolumeClaimSpec.volumeMode": "Filesystem",
    "PersistentVolumeSpec.volumeMode": "Filesystem",
    "PersistentVolumeSpec.persistentVolumeReclaimPolicy": "Retain",
    "DeploymentSpec.replicas": 1,
    "DeploymentSpec.revisionHistoryLimit": 10,
    "DeploymentSpec.progressDeadlineSeconds": 600,
    "DeploymentStrategy.type": "RollingUpdate",
    "ReplicaSetSpec.replicas": 1,
    "StatefulSetSpec.replicas": 1,
    "StatefulSetSpec.revisionHistoryLimit": 10,
    "StatefulSetSpec.podManagementPolicy": "OrderedReady",
    "HorizontalPodAutoscalerSpec.minReplicas": 1,
    "StatefulSetUpdateStrategy.type": "RollingUpdate",
    "DaemonSetSpec.revisionHistoryLimit": 10,
    "DaemonSetUpdateStrategy.type": "RollingUpdate",
    "CronJobSpec.concurrencyPolicy": "Allow",
    "CronJobSpec.successfulJobsHistoryLimit": 3,
    "CronJobSpec.failedJobsHistoryLimit": 1,
    "StorageClass.reclaimPolicy": "Delete",
    "StorageClass.volumeBindingMode": "Immediate",
    "PriorityClass.preemptionPolicy": "PreemptLowerPriority",
    "ValidatingWebhook.failurePolicy": "Fail",
    "ValidatingWebhook.matchPolicy": "Equivalent",
    "ValidatingWebhook.timeoutSeconds": 10,
    "MutatingWebhook.failurePolicy": "Fail",
    "MutatingWebhook.matchPolicy": "Equivalent",
    "MutatingWebhook.timeoutSeconds": 10,
    "MutatingWebhook.reinvocationPolicy": "Never",
    "RuleWithOperations.scope": "*",
    "RoleRef.apiGroup": "rbac.authorization.k8s.io",
}

# What the Go types always write, set or not: structs that are no pointers, and scalars without `omitempty`. They
# belong to nobody until something in them is set, so ownership needs to know them as much as the answers do.
_STRUCTS: Final = _words(
    "Binding.target CSIDriver.spec CSINode.spec ClusterRoleBinding.roleRef Container.resources "
    "ContainerResourceMetricSource.target ContainerResourceMetricStatus.current ContainerStatus.lastState "
    "ContainerStatus.state CronJob.spec CronJob.status CronJobSpec.jobTemplate CustomResourceDefinition.spec "
    "CustomResourceDefinition.status CustomResourceDefinitionSpec.names DaemonSet.spec DaemonSet.status "
    "DaemonSetSpec.template DaemonSetSpec.updateStrategy Deployment.spec Deployment.status DeploymentSpec.strategy "
    "DeploymentSpec.template Endpoint.conditions EphemeralContainer.resources Event.deprecatedSource "
    "Event.involvedObject Event.regarding Event.source ExternalMetricSource.metric ExternalMetricSource.target "
    "ExternalMetricStatus.current ExternalMetricStatus.metric HTTPIngressPath.backend HorizontalPodAutoscaler.spec "
    "HorizontalPodAutoscaler.status HorizontalPodAutoscalerSpec.scaleTargetRef Ingress.spec Ingress.status "
    "IngressClass.spec IngressServiceBackend.port IngressStatus.loadBalancer Job.spec Job.status JobSpec.template "
    "JobTemplateSpec.metadata JobTemplateSpec.spec Lease.spec LimitRange.spec LocalSubjectAccessReview.spec "
    "LocalSubjectAccessReview.status MutatingWebhook.clientConfig Namespace.spec Namespace.status NetworkPolicy.spec "
    "NetworkPolicySpec.podSelector Node.spec Node.status NodeDaemonEndpoints.kubeletEndpoint "
    "NodeStatus.daemonEndpoints NodeStatus.nodeInfo ObjectMetricSource.describedObject ObjectMetricSource.metric "
    "ObjectMetricSource.target ObjectMetricStatus.current ObjectMetricStatus.describedObject "
    "ObjectMetricStatus.metric PersistentVolume.spec PersistentVolume.status PersistentVolumeClaim.spec "
    "PersistentVolumeClaim.status PersistentVolumeClaimSpec.resources PersistentVolumeClaimTemplate.metadata "
    "PersistentVolumeClaimTemplate.spec Pod.spec Pod.status PodDisruptionBudget.spec PodDisruptionBudget.status "
    "PodTemplateSpec.metadata PodTemplateSpec.spec PodsMetricSource.metric PodsMetricSource.target "
    "PodsMetricStatus.current PodsMetricStatus.metric PreferredSchedulingTerm.preference ReplicaSet.spec "
    "ReplicaSet.status ReplicaSetSpec.template ResourceMetricSource.target ResourceMetricStatus.current "
    "ResourceQuota.spec ResourceQuota.status RoleBinding.roleRef Scale.spec Scale.status SelfSubjectAccessReview.spec "
    "SelfSubjectAccessReview.status SelfSubjectReview.status SelfSubjectReviewStatus.userInfo "
    "SelfSubjectRulesReview.spec SelfSubjectRulesReview.status Service.spec Service.status ServiceStatus.loadBalancer "
    "StatefulSet.spec StatefulSet.status StatefulSetSpec.template StatefulSetSpec.updateStrategy "
    "SubjectAccessReview.spec SubjectAccessReview.status TokenRequest.spec TokenRequest.status TokenReview.spec "
    "TokenReview.status TokenReviewStatus.user ValidatingWebhook.clientConfig VolumeAttachment.spec "
    "VolumeAttachment.status VolumeAttachmentSpec.source WeightedPodAffinityTerm.podAffinityTerm "
)
_ZEROS: Final[dict[str, Any]] = {
    "ReplicaSetStatus.replicas": 0,
    "StatefulSetStatus.replicas": 0,
    "StatefulSetStatus.availableReplicas": 0,
    "StatefulSetSpec.serviceName": "",
    **dict.fromkeys(
        (
            f"DaemonSetStatus.{name}"
            for name in ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
        ),
        0,
    ),
    **dict.fromkeys(
        (
            f"PodDisruptionBudgetStatus.{name}"
            for name in ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
        ),
        0,
    ),
    "HorizontalPodAutoscalerStatus.desiredReplicas": 0,
    "DaemonEndpoint.Port": 0,
    **dict.fromkeys(
        (
            f"NodeSystemInfo.{name}"
            for name in _words(
                "architecture bootID containerRuntimeVersion kernelVersion kubeProxyVersion kubeletVersion machineID "
                "operatingSystem osImage systemUUID"
            )
        ),
        "",
    ),
    "ContainerStatus.image": "",
    "ContainerStatus.imageID": "",
    "ContainerStatus.ready": False,
    "ContainerStatus.restartCount": 0,
    "ControllerRevision.revision": 0,
    "Event.reportingComponent": "",
    "Event.reportingInstance": "",
}
# Times that are no pointers: written as null until they are known.
_TIMES: Final = _words(
    "PodCondition.lastProbeTime PodCondition.lastTransitionTime NodeCondition.lastHeartbeatTime "
    "NodeCondition.lastTransitionTime DeploymentCondition.lastUpdateTime DeploymentCondition.lastTransitionTime "
    "ReplicaSetCondition.lastTransitionTime StatefulSetCondition.lastTransitionTime JobCondition.lastProbeTime "
    "JobCondition.lastTransitionTime PersistentVolumeClaimCondition.lastProbeTime "
    "PersistentVolumeClaimCondition.lastTransitionTime NamespaceCondition.lastTransitionTime "
    "ContainerStateRunning.startedAt ContainerStateTerminated.startedAt ContainerStateTerminated.finishedAt "
    "CustomResourceDefinitionCondition.lastTransitionTime Event.eventTime Event.firstTimestamp Event.lastTimestamp "
    "Event.deprecatedFirstTimestamp Event.deprecatedLastTimestamp"
)


def of_class(name: str) -> Json:
    """The markers of a type."""
    if name in _ATOMIC_CLASSES:
        return {"x-kubernetes-map-type": "atomic"}
    if name == "FieldsV1":
        return dict(ANY_OBJECT)
    return {}


def of_field(owner: str, name: str) -> Json:
    """The markers of field `name` of type `owner`."""
    key = f"{owner}.{name}"
    return {**_list_markers(key), **_map_markers(owner, name), **_value_markers(key)}


def _list_markers(key: str) -> Json:
    found: Json = {}
    keys = _MAPS.get(key) or _MAPS_WITHOUT_MERGE.get(key)
    if keys:
        found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys.split()}
    if key in _SETS:
        found["x-kubernetes-list-type"] = "set"
    merge_key = _MAPS.get(key) or _MERGED_ATOMIC.get(key)
    if merge_key:
        strategy = "merge,retainKeys" if key in _RETAIN_KEYS else "merge"
        found |= {"x-kubernetes-patch-strategy": strategy, "x-kubernetes-patch-merge-key": merge_key.split()[0]}
    elif key in _MERGED_SETS:
        found["x-kubernetes-patch-strategy"] = "merge"
    elif key in _STRATEGIES:
        found["x-kubernetes-patch-strategy"] = _STRATEGIES[key]
    return found


def _map_markers(owner: str, name: str) -> Json:
    key = f"{owner}.{name}"
    if key in _VALUES:
        return {"additionalProperties": _VALUES[key]}
    if owner in _RESOURCE_OWNERS and name in _RESOURCE_MAPS:
        return {"additionalProperties": QUANTITY}
    if key in _BYTES:
        return {"additionalProperties": {"type": "string", "format": "byte"}}
    return {"x-kubernetes-map-type": "atomic"} if key in _ATOMIC_FIELDS else {}


def _value_markers(key: str) -> Json:
    found: Json = {}
    if key in _ENUMS:
        found["enum"] = _ENUMS[key].split()
    if key in _STRUCTS:
        found["default"] = {}
    elif key in _TIMES:
        found |= {"default": None, "nullable": True}
    elif key in _DEFAULTS or key in _ZEROS:
        found["default"] = _DEFAULTS[key] if key in _DEFAULTS else _ZEROS[key]
    return found
