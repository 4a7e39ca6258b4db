"""The operator: its Deployment, what is in front of it, and the webhook's configuration."""

from __future__ import annotations

from typing import Any

from kaito.api.workspace import GROUP, VERSIONS
from kaito.install.objects.common import (
    HAS_WEBHOOK,
    NAMESPACE,
    OPERATOR,
    common_flags,
    common_ports,
    deployment,
    flag,
    metadata,
    metrics_port,
    service,
    service_account,
)
from kaito.install.template import Block, Document, Each, Image, Is, Text, Value, When
from kaito.workspace.admission import CONFIGURATION, WEBHOOK_NAME, WEBHOOK_PATH

FILE = "operator.yaml"


def operator_documents() -> list[Document]:
    return [
        Document("serviceaccounts.yaml", service_account(OPERATOR, "operator"), Is("operator.serviceAccount.create")),
        Document(FILE, deployment(OPERATOR, "operator", _container(), {})),
        Document("services.yaml", service(OPERATOR, [_webhook_port(), metrics_port()])),
        Document("webhook.yaml", _configuration(), HAS_WEBHOOK),
    ]


def _container() -> dict[str, Any]:
    return {
        "image": Image("operator.image"),
        "imagePullPolicy": Value("operator.image.pullPolicy"),
        "args": ["operator", *_flags(), *common_flags("operator")],
        "env": Block("operator.extraEnv"),
        "ports": [*common_ports(), When(HAS_WEBHOOK, {"name": "webhook", "containerPort": Value("webhook.port")})],
    }


def _flags() -> list[Any]:
    return [
        flag("nodes", Value("nodes")),
        flag("node-api", Value("nodeApi")),
        When(Is("nodeClass"), flag("node-class", Value("nodeClass"))),
        When(Is("cloud"), flag("cloud", Value("cloud"))),
        When(Is("watchNamespace"), flag("namespace", Value("watchNamespace"))),
        Text(("--runtime-image=", Image("runtime.image"))),
        flag("engine", Value("runtime.engine")),
        Each("runtime.allowDataFrom", "--allow-data-from="),
        Each("runtime.insecureRegistries", "--insecure-registry="),
        Each("runtime.pullSecrets", "--pull-secret="),
        When(Is("runtime.weightsStorageClass"), flag("weights-storage-class", Value("runtime.weightsStorageClass"))),
        Each("nodeClassNames", "--node-class-name="),
        When(HAS_WEBHOOK, [flag("webhook-port", Value("webhook.port")), f"--webhook-service={OPERATOR}"]),
    ]


def _webhook_port() -> Any:
    return When(HAS_WEBHOOK, {"name": "webhook", "port": 443, "targetPort": "webhook", "protocol": "TCP"})


def _configuration() -> dict[str, Any]:
    """Without the authority: the operator, which makes its certificate itself, puts that in."""
    webhook = {
        "name": WEBHOOK_NAME,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "failurePolicy": Value("webhook.failurePolicy"),
        "timeoutSeconds": Value("webhook.timeoutSeconds"),
        "clientConfig": {
            "service": {"name": OPERATOR, "namespace": NAMESPACE, "port": 443, "path": WEBHOOK_PATH},
        },
        "namespaceSelector": Block("webhook.namespaceSelector"),
        "rules": [
            {
                "apiGroups": [GROUP],
                "apiVersions": list(VERSIONS),
                "operations": ["CREATE", "UPDATE"],
                "resources": ["workspaces"],
                "scope": "Namespaced",
            }
        ],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata(CONFIGURATION, OPERATOR, namespaced=False),
        "webhooks": [webhook],
    }
