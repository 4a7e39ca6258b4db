"""Every built-in kind once: what a create fills in, what the table shows, what a delete answers."""

from __future__ import annotations

from typing import Any

from tests.local.apiserver.requests.asks import Ask, Json, delete, get, pod_spec, post

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
LABELS = {"app": "x"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": pod_spec("nginx:1.25")}
WORKLOAD = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
RULES = [{"apiGroups": ["none.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["none"]}]
WEBHOOK = {
    "name": "a.none.example",
    "clientConfig": {"url": "https://127.0.0.1:1/"},
    "rules": RULES,
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}
ROLE_RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
SUBJECTS = [{"kind": "ServiceAccount", "name": "bot", "namespace": "{ns}"}, {"kind": "User", "name": "jane"}]
FULL_POD: Json = {
    "initContainers": [{"name": "first", "image": "busybox", "command": ["true"]}],
    "containers": [
        {
            "name": "main",
            "image": "example.com:5000/app@sha256:" + "0" * 64,
            "ports": [{"containerPort": 80, "name": "http"}],
            "env": [
                {"name": "A", "value": "b"},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
            ],
            "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "0.5"}},
            "livenessProbe": {"httpGet": {"port": "http"}},
            "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 3},
            "startupProbe": {"exec": {"command": ["true"]}},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "securityContext": {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
        }
    ],
    "volumes": [
        {"name": "data", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "c"}},
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "host", "hostPath": {"path": "/tmp"}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "c"}},
                    {"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]
            },
        },
    ],
    "restartPolicy": "OnFailure",
    "serviceAccountName": "default",
    "terminationGracePeriodSeconds": 5,
    "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
            }
        }
    },
    "nodeSelector": {"a": "b"},
    "securityContext": {"runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
}
NODE_STATUS = {
    "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}],
    "addresses": [{"type": "InternalIP", "address": "10.1.2.3"}],
}

PROTECTION = ("metadata.finalizers", "metadata.deletionTimestamp", "metadata.deletionGracePeriodSeconds")
DIFFERS = {
    "Node": ("spec.taints",),  # no node of this machine waits for a controller that takes its first taint away
    "PersistentVolumeClaim": PROTECTION,  # nor claims and volumes for one that sees them unused
    "PersistentVolume": PROTECTION,
    "DaemonSet": ("metadata.annotations", "metadata.managedFields"),  # a template's generation of extensions/v1beta1
}
# what -> api prefix, kind, plural, namespaced, the body's own part
_KINDS: dict[str, tuple[str, str, str, bool, Json]] = {
    "namespace": ("v1", "Namespace", "namespaces", False, {}),
    "node": ("v1", "Node", "nodes", False, {"spec": {"unschedulable": True}, "status": NODE_STATUS}),
    "config-map": ("v1", "ConfigMap", "configmaps", True, {"binaryData": {"b": "AAE="}, "immutable": True}),
    "tls-secret": (
        "v1",
        "Secret",
        "secrets",
        True,
        {"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}},
    ),
    "service-account": ("v1", "ServiceAccount", "serviceaccounts", True, {"imagePullSecrets": [{"name": "s"}]}),
    "pod": ("v1", "Pod", "pods", True, {"spec": FULL_POD}),
    "endpoints": (
        "v1",
        "Endpoints",
        "endpoints",
        True,
        {"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]},
    ),
    "claim": (
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        True,
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}},
    ),
    "volume": (
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        False,
        {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp"}}},
    ),
    "quota": ("v1", "ResourceQuota", "resourcequotas", True, {"spec": {"hard": {"pods": "10"}}}),
    "limits": (
        "v1",
        "LimitRange",
        "limitranges",
        True,
        {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}},
    ),
    "deployment": (
        "apps/v1",
        "Deployment",
        "deployments",
        True,
        {"spec": {**WORKLOAD, "strategy": {"type": "Recreate"}}},
    ),
    "replica-set": ("apps/v1", "ReplicaSet", "replicasets", True, {"spec": WORKLOAD}),
    "daemon-set": ("apps/v1", "DaemonSet", "daemonsets", True, {"spec": WORKLOAD}),
    "stateful-set": (
        "apps/v1",
        "StatefulSet",
        "statefulsets",
        True,
        {
            "spec": {
                **WORKLOAD,
                "serviceName": "s",
                "volumeClaimTemplates": [
                    {
                        "metadata": {"name": "data"},
                        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                    }
                ],
            }
        },
    ),
    "controller-revision": (
        "apps/v1",
        "ControllerRevision",
        "controllerrevisions",
        True,
        {"revision": 3, "data": {"spec": {}}},
    ),
    "indexed-job": (
        "batch/v1",
        "Job",
        "jobs",
        True,
        {
            "metadata": {"labels": {"mine": "yes"}},
            "spec": {
                "completionMode": "Indexed",
                "completions": 3,
                "parallelism": 2,
                "ttlSecondsAfterFinished": 60,
                "activeDeadlineSeconds": 100,
                "template": {"spec": pod_spec("busybox", restartPolicy="OnFailure")},
            },
        },
    ),
    "cron-job": (
        "batch/v1",
        "CronJob",
        "cronjobs",
        True,
        {
            "spec": {
                "schedule": "*/5 * * * *",
                "jobTemplate": {"spec": {"template": {"spec": pod_spec("busybox", restartPolicy="Never")}}},
            }
        },
    ),
    "budget": (
        "policy/v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        True,
        {"spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}}},
    ),
    "lease": ("coordination.k8s.io/v1", "Lease", "leases", True, {}),
    "slice": (
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "endpointslices",
        True,
        {
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
            "ports": [{"port": 80, "name": "http"}],
        },
    ),
    "priority": ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", False, {"value": 7, "description": "d"}),
    "autoscaler": (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        True,
        {"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}},
    ),
    "network-policy": ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", True, {"spec": {"podSelector": {}}}),
    "ingress": (
        "networking.k8s.io/v1",
        "Ingress",
        "ingresses",
        True,
        {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    ),
    "ingress-class": (
        "networking.k8s.io/v1",
        "IngressClass",
        "ingressclasses",
        False,
        {"spec": {"controller": "a.b/c"}},
    ),
    "storage-class": ("storage.k8s.io/v1", "StorageClass", "storageclasses", False, {"provisioner": "none.example/p"}),
    "role": ("rbac.authorization.k8s.io/v1", "Role", "roles", True, {"rules": ROLE_RULES}),
    "role-binding": (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "rolebindings",
        True,
        {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": SUBJECTS},
    ),
    "cluster-role": ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False, {"rules": ROLE_RULES}),
    "cluster-role-binding": (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        False,
        {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": SUBJECTS,
        },
    ),
    "validating-webhook": (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        False,
        {"webhooks": [WEBHOOK]},
    ),
    "mutating-webhook": (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        False,
        {"webhooks": [WEBHOOK]},
    ),
    "node-port": (
        "v1",
        "Service",
        "services",
        True,
        {
            "spec": {
                "type": "ClusterIP",
                "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "protocol": "UDP"}],
            }
        },
    ),
    "external-name": (
        "v1",
        "Service",
        "services",
        True,
        {"spec": {"type": "ExternalName", "externalName": "example.com"}},
    ),
}


def _scenario(api_version: str, kind: str, plural: str, namespaced: bool, own: Json) -> list[Ask]:
    prefix = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    path = f"{prefix}/namespaces/{{ns}}/{plural}" if namespaced else f"{prefix}/{plural}"
    name = "one" if namespaced else "{ns}-one"
    metadata = {**own.get("metadata", {}), "name": name}
    body: dict[str, Any] = {"apiVersion": api_version, "kind": kind, **own, "metadata": metadata}
    differs = DIFFERS.get(kind, ())
    return [
        post(path, body, differs=differs),
        get(
            f"{path}/{name}",
            accept=TABLE,
            want={"kind": "Table", "rows.0.cells.0": name},
            differs=tuple(f"rows.*.object.{one}" for one in differs),
        ),
        delete(f"{path}/{name}", differs=differs),
    ]


SCENARIOS: dict[str, list[Ask]] = {f"kind-{what}": _scenario(*entry) for what, entry in _KINDS.items()}
