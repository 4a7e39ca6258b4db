"""The built-in kinds, as a table."""

from __future__ import annotations

from typing import Final

from kaito.local.machinery.model_names import package_of_module
from kaito.local.machinery.nodes import REF_PREFIX
from kaito.local.machinery.resource_info import ALL_VERBS, CREATE_ONLY, ResourceInfo
from kaito.local.machinery.schema import Schema

_RBAC: Final = "rbac.authorization.k8s.io"
_STORAGE: Final = "storage.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
_AUTHENTICATION: Final = "authentication.k8s.io"
_AUTHORIZATION: Final = "authorization.k8s.io"
_CRD: Final = "apiextensions.k8s.io"

# group | version | kind | plural | flags (n: namespaced, s: status, c: scale, a: category all, r: review) | short names
_TABLE: Final = f"""\
|v1|Namespace|namespaces|s|ns
|v1|Node|nodes|s|no
|v1|Pod|pods|nsa|po
|v1|Service|services|nsa|svc
|v1|Endpoints|endpoints|n|ep
|v1|ConfigMap|configmaps|n|cm
|v1|Secret|secrets|n|
|v1|ServiceAccount|serviceaccounts|n|sa
|v1|Event|events|n|ev
|v1|PersistentVolumeClaim|persistentvolumeclaims|ns|pvc
|v1|PersistentVolume|persistentvolumes|s|pv
|v1|ResourceQuota|resourcequotas|ns|quota
|v1|LimitRange|limitranges|n|limits
apps|v1|Deployment|deployments|nsca|deploy
apps|v1|ReplicaSet|replicasets|nsca|rs
apps|v1|StatefulSet|statefulsets|nsca|sts
apps|v1|DaemonSet|daemonsets|nsa|ds
apps|v1|ControllerRevision|controllerrevisions|n|
batch|v1|Job|jobs|nsa|
batch|v1|CronJob|cronjobs|nsa|cj
policy|v1|PodDisruptionBudget|poddisruptionbudgets|ns|pdb
coordination.k8s.io|v1|Lease|leases|n|
discovery.k8s.io|v1|EndpointSlice|endpointslices|n|
events.k8s.io|v1|Event|events|n|ev
scheduling.k8s.io|v1|PriorityClass|priorityclasses||pc
autoscaling|v2|HorizontalPodAutoscaler|horizontalpodautoscalers|nsa|hpa
networking.k8s.io|v1|NetworkPolicy|networkpolicies|n|netpol
networking.k8s.io|v1|Ingress|ingresses|ns|ing
networking.k8s.io|v1|IngressClass|ingressclasses||
{_STORAGE}|v1|StorageClass|storageclasses||sc
{_STORAGE}|v1|VolumeAttachment|volumeattachments|s|
{_STORAGE}|v1|CSINode|csinodes||
{_STORAGE}|v1|CSIDriver|csidrivers||
{_RBAC}|v1|Role|roles|n|
{_RBAC}|v1|RoleBinding|rolebindings|n|
{_RBAC}|v1|ClusterRole|clusterroles||
{_RBAC}|v1|ClusterRoleBinding|clusterrolebindings||
{_CRD}|v1|CustomResourceDefinition|customresourcedefinitions|se|crd crds
{_ADMISSION}|v1|ValidatingWebhookConfiguration|validatingwebhookconfigurations|e|
{_ADMISSION}|v1|MutatingWebhookConfiguration|mutatingwebhookconfigurations|e|
{_AUTHENTICATION}|v1|TokenReview|tokenreviews|r|
{_AUTHENTICATION}|v1|SelfSubjectReview|selfsubjectreviews|r|
{_AUTHORIZATION}|v1|SubjectAccessReview|subjectaccessreviews|r|
{_AUTHORIZATION}|v1|SelfSubjectAccessReview|selfsubjectaccessreviews|r|
{_AUTHORIZATION}|v1|SelfSubjectRulesReview|selfsubjectrulesreviews|r|
{_AUTHORIZATION}|v1|LocalSubjectAccessReview|localsubjectaccessreviews|nr|
"""
_MODULES: Final = {
    "": "core_v1",
    "autoscaling": "autoscaling_v2",
    "coordination.k8s.io": "coordination_v1",
    "discovery.k8s.io": "discovery_v1",
    "events.k8s.io": "events_v1",
    "scheduling.k8s.io": "scheduling_v1",
    "networking.k8s.io": "networking_v1",
    _STORAGE: "storage_v1",
    _RBAC: "rbac_v1",
    _CRD: "apiextensions_v1",
    _ADMISSION: "admissionregistration_v1",
    _AUTHENTICATION: "authentication_v1",
    _AUTHORIZATION: "authorization_v1",
}
_EXTRA_SUBRESOURCES: Final = {
    "pods": {"log", "exec", "attach", "portforward", "eviction", "binding", "proxy", "ephemeralcontainers", "resize"},
    "services": {"proxy"},
    "nodes": {"proxy"},
    "namespaces": {"finalize"},
    "serviceaccounts": {"token"},
}
# Kinds that no resource serves but bodies and documents hold.
_SUPPORTING: Final = {
    "autoscaling/v1/Scale": "autoscaling_v1.Scale",
    "policy/v1/Eviction": "policy_v1.Eviction",
    "authentication.k8s.io/v1/TokenRequest": "authentication_v1.TokenRequest",
    "v1/Binding": "core_v1.Binding",
    "v1/DeleteOptions": "meta_v1.DeleteOptions",
    "v1/Status": "meta_v1.Status",
}


def _read(line: str) -> ResourceInfo:
    group, version, kind, plural, flags, short_names = line.split("|")
    module = _MODULES.get(group, f"{group}_{version}")
    definition = f"{package_of_module(module)}.{kind}"
    subresources = _EXTRA_SUBRESOURCES.get(plural, set()) if not group else set()
    subresources = subresources | ({"status"} if "s" in flags else set()) | ({"scale"} if "c" in flags else set())
    return ResourceInfo(
        group=group,
        version=version,
        kind=kind,
        list_kind=f"{kind}List",
        plural=plural,
        singular=kind.lower(),
        namespaced="n" in flags,
        schema=Schema({"$ref": REF_PREFIX + definition}, builtin=True),
        short_names=tuple(short_names.split()),
        categories=(("all",) if "a" in flags else ()) + (("api-extensions",) if "e" in flags else ()),
        subresources=frozenset(subresources),
        storage_version=version,
        verbs=CREATE_ONLY if "r" in flags else ALL_VERBS,
        definition=definition,
    )


BUILTIN: Final[tuple[ResourceInfo, ...]] = tuple(_read(line) for line in _TABLE.strip().splitlines())

# api version and kind -> module and class of the models; what the data file is made of.
MODELS: Final[dict[str, str]] = {
    f"{info.api_version}/{info.kind}": f"{_MODULES.get(info.group, f'{info.group}_{info.version}')}.{info.kind}"
    for info in BUILTIN
} | _SUPPORTING
