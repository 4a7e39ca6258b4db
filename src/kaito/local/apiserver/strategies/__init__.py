"""What is particular about writing each kind; the verbs know none of it."""

from __future__ import annotations

from kaito.local.apiserver.strategies.base import CustomStrategy, GenerationStrategy, Strategy
from kaito.local.apiserver.strategies.core import (
    ConfigMapStrategy,
    EndpointsStrategy,
    LimitRangeStrategy,
    NamespaceStrategy,
    NodeStrategy,
    PersistentVolumeClaimStrategy,
    PersistentVolumeStrategy,
    PodStrategy,
    ReturnedStrategy,
    SecretStrategy,
)
from kaito.local.apiserver.strategies.crd import CrdStrategy
from kaito.local.apiserver.strategies.events import EventStrategy
from kaito.local.apiserver.strategies.policy import AutoscalerStrategy, BindingStrategy, NetworkPolicyStrategy
from kaito.local.apiserver.strategies.service import ServiceStrategy
from kaito.local.apiserver.strategies.webhooks import WebhookStrategy
from kaito.local.apiserver.strategies.workloads import (
    CronJobStrategy,
    DaemonSetStrategy,
    DeploymentStrategy,
    JobStrategy,
    ReplicaSetStrategy,
    StatefulSetStrategy,
)
from kaito.local.machinery.kinds import ResourceInfo

PLAIN = Strategy()
COUNTED = GenerationStrategy()
BY_KIND: dict[tuple[str, str], Strategy] = {
    ("", "Namespace"): NamespaceStrategy(),
    ("", "Node"): NodeStrategy(),
    ("", "Pod"): PodStrategy(),
    ("", "Service"): ServiceStrategy(),
    ("", "Secret"): SecretStrategy(),
    ("", "ConfigMap"): ConfigMapStrategy(),
    ("", "PersistentVolumeClaim"): PersistentVolumeClaimStrategy(),
    ("", "Endpoints"): EndpointsStrategy(),
    ("", "LimitRange"): LimitRangeStrategy(),
    ("", "PersistentVolume"): PersistentVolumeStrategy(),
    ("", "ResourceQuota"): ReturnedStrategy(),
    ("", "ServiceAccount"): ReturnedStrategy(),
    ("", "Event"): EventStrategy(),
    ("events.k8s.io", "Event"): EventStrategy(),
    ("apps", "Deployment"): DeploymentStrategy(),
    ("apps", "ReplicaSet"): ReplicaSetStrategy(),
    ("apps", "StatefulSet"): StatefulSetStrategy(),
    ("apps", "DaemonSet"): DaemonSetStrategy(),
    ("batch", "Job"): JobStrategy(),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): CrdStrategy(),
    ("batch", "CronJob"): CronJobStrategy(),
    ("policy", "PodDisruptionBudget"): COUNTED,
    ("networking.k8s.io", "Ingress"): COUNTED,
    ("networking.k8s.io", "IngressClass"): COUNTED,
    ("networking.k8s.io", "NetworkPolicy"): NetworkPolicyStrategy(),
    ("scheduling.k8s.io", "PriorityClass"): COUNTED,
    ("autoscaling", "HorizontalPodAutoscaler"): AutoscalerStrategy(),
    ("rbac.authorization.k8s.io", "RoleBinding"): BindingStrategy(),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): BindingStrategy(),
    ("storage.k8s.io", "StorageClass"): ReturnedStrategy(),
    ("discovery.k8s.io", "EndpointSlice"): COUNTED,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): WebhookStrategy(),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): WebhookStrategy(),
}


def strategy_for(info: ResourceInfo) -> Strategy:
    if info.crd:
        return CustomStrategy()
    return BY_KIND.get((info.group, info.kind), PLAIN)
