"""What stands around the pods: disruption budgets, network policies, service monitors."""

from __future__ import annotations

from typing import Any

from kaito.install.objects.common import (
    HAS_PROVISIONER,
    HAS_WEBHOOK,
    HEALTH_PORT,
    OPERATOR,
    PROVISIONER,
    metadata,
    selector,
)
from kaito.install.template import All, Condition, Document, Is, Splice, Spread, Value, When


def around_documents() -> list[Document]:
    documents: list[Document] = []
    for name, values, there in ((OPERATOR, "operator", ()), (PROVISIONER, "provisioner", (HAS_PROVISIONER,))):
        documents += [
            Document("poddisruptionbudgets.yaml", _budget(name, values), _all(there, f"{values}.podDisruptionBudget")),
            Document("networkpolicies.yaml", _policy(name), _all(there, "networkPolicy")),
            Document("servicemonitors.yaml", _monitor(name), _all(there, "metrics.serviceMonitor")),
        ]
    return documents


def _all(there: tuple[Condition, ...], switch: str) -> Condition:
    enabled = Is(f"{switch}.enabled")
    return All((*there, enabled)) if there else enabled


def _budget(name: str, values: str) -> dict[str, Any]:
    spec = {
        "maxUnavailable": Value(f"{values}.podDisruptionBudget.maxUnavailable"),
        "selector": {"matchLabels": selector(name)},
    }
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata(name), "spec": spec}


def _policy(name: str) -> dict[str, Any]:
    """The API server and kubelets have no labels to be known by, so the open ports are open to all."""
    ports: list[Any] = [{"port": HEALTH_PORT, "protocol": "TCP"}, {"port": Value("metrics.port"), "protocol": "TCP"}]
    if name == OPERATOR:
        ports.append(When(HAS_WEBHOOK, {"port": Value("webhook.port"), "protocol": "TCP"}))
    restricted = Is("networkPolicy.egress.enabled")
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    out = {"ports": [Splice("networkPolicy.egress.ports")]}
    spec = {
        "podSelector": {"matchLabels": selector(name)},
        "policyTypes": ["Ingress", When(restricted, "Egress")],
        "ingress": [{"ports": ports}],
        "egress": When(restricted, [dns, out]),
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata(name), "spec": spec}


def _monitor(name: str) -> dict[str, Any]:
    head = metadata(name)
    head["labels"] = {**head["labels"], Spread("metrics.serviceMonitor.labels"): None}
    endpoint = {"port": "metrics", "interval": Value("metrics.serviceMonitor.interval")}
    spec = {"selector": {"matchLabels": selector(name)}, "endpoints": [endpoint]}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": head, "spec": spec}
