"""What the objects share: names, labels, and the parts of a pod that a restricted namespace asks for."""

from __future__ import annotations

from typing import Any

from kaito.install.template import All, AnyOf, Block, Builtin, Each, Equals, Is, Not, Partial, Spread, Text, Value, When

OPERATOR = "kaito-operator"
PROVISIONER = "kaito-provisioner"
NAMESPACE = Builtin("Release.Namespace")
PART_OF = "app.kubernetes.io/part-of"
MANAGED_BY = "app.kubernetes.io/managed-by"
SUITE = "kaito"
HEALTH_PORT = 8081
USER = 65532
"""The user of the image, by number, so that `runAsNonRoot` can be checked."""

PROVISIONED = Not(Equals("nodes", "byo"))
HAS_POOLS = All((Equals("nodes", "karpenter"), Equals("nodeApi", "nodepool")))
HAS_PROVISIONER = Is("provisioner.enabled")
IS_AZURE = Equals("provisioner.provider", "azure")
HAS_WEBHOOK = Is("webhook.enabled")
IS_WORKLOAD_IDENTITY = All((IS_AZURE, Equals("provisioner.azure.credential", "workload-identity")))

LABELS = Partial("labels")
PARTIALS: dict[str, dict[Any, Any]] = {
    "labels": {
        PART_OF: SUITE,
        "app.kubernetes.io/instance": Builtin("Release.Name"),
        "app.kubernetes.io/version": Builtin("Chart.AppVersion"),
        MANAGED_BY: Builtin("Release.Service"),
    }
}


def selector(name: str) -> dict[str, str]:
    """The labels that pods of one Deployment are found by; they never change."""
    return {"app.kubernetes.io/name": name, PART_OF: SUITE}


def metadata(name: str, component: str = "", *, namespaced: bool = True) -> dict[Any, Any]:
    labels: dict[Any, Any] = {"app.kubernetes.io/name": component or name, LABELS: None}
    return {"name": name, **({"namespace": NAMESPACE} if namespaced else {}), "labels": labels}


def service_account(name: str, values: str, annotations: When | None = None) -> dict[str, Any]:
    given = f"{values}.serviceAccount.annotations"
    kept: Any = Block(given)
    if annotations is not None:
        both = {Spread(given): None, **{key: When(annotations.condition, v) for key, v in annotations.body.items()}}
        kept = When(AnyOf((annotations.condition, Is(given))), both)
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {**metadata(name), "annotations": kept},
        "automountServiceAccountToken": False,
    }


def deployment(name: str, values: str, container: dict[str, Any], labels: dict[Any, Any]) -> dict[str, Any]:
    """`container` has the image, the arguments, the environment and the ports; the rest is the same for all."""
    pod = {
        "serviceAccountName": name,
        "automountServiceAccountToken": True,
        "imagePullSecrets": Block("global.imagePullSecrets"),
        "priorityClassName": When(Is(f"{values}.priorityClassName"), Value(f"{values}.priorityClassName")),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 30,
        "containers": [{"name": name.removeprefix("kaito-"), **container, **_hardened(values)}],
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
        "nodeSelector": Block(f"{values}.nodeSelector"),
        "tolerations": Block(f"{values}.tolerations"),
        "affinity": Block(f"{values}.affinity"),
        "topologySpreadConstraints": Block(f"{values}.topologySpreadConstraints"),
    }
    pod_labels = {**selector(name), **labels, Spread(f"{values}.podLabels"): None}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name),
        "spec": {
            "replicas": Value(f"{values}.replicas"),
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector(name)},
            "template": {
                "metadata": {"labels": pod_labels, "annotations": Block(f"{values}.podAnnotations")},
                "spec": pod,
            },
        },
    }


def _hardened(values: str) -> dict[str, Any]:
    probe = {"port": "health"}
    return {
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": {"httpGet": {"path": "/healthz", **probe}, "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {"httpGet": {"path": "/healthz", **probe}, "periodSeconds": 20, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", **probe}, "periodSeconds": 5, "timeoutSeconds": 5},
        "resources": Block(f"{values}.resources"),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own emptyDir
    }


def flag(name: str, value: Value | Builtin) -> Text:
    return Text((f"--{name}=", value))


def common_flags(values: str) -> list[Any]:
    return [
        "--leader-election",
        flag("lease-namespace", NAMESPACE),
        flag("metrics-port", Value("metrics.port")),
        f"--health-port={HEALTH_PORT}",
        flag("log-level", Value(f"{values}.logLevel")),
        "--log-json",
        Each(f"{values}.extraArgs", ""),
    ]


def common_ports() -> list[Any]:
    return [
        {"name": "metrics", "containerPort": Value("metrics.port")},
        {"name": "health", "containerPort": HEALTH_PORT},
    ]


def service(name: str, ports: list[Any]) -> dict[str, Any]:
    spec = {"type": "ClusterIP", "selector": selector(name), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name), "spec": spec}


def metrics_port() -> dict[str, Any]:
    return {"name": "metrics", "port": 8080, "targetPort": "metrics", "protocol": "TCP"}
