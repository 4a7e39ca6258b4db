"""Kinds that say what others may: bindings of roles, network policies, priorities, autoscalers."""

from __future__ import annotations

from kaito.local.apiserver.strategies.base import GenerationStrategy, Strategy, child, set_default
from kaito.local.store.records import Object

RBAC = "rbac.authorization.k8s.io"
UTILIZATION_PERCENT = 80


class BindingStrategy(Strategy):
    def default(self, obj: Object) -> None:
        for subject in obj.get("subjects") or []:
            if subject.get("kind") in ("User", "Group"):
                set_default(subject, "apiGroup", RBAC)


class NetworkPolicyStrategy(GenerationStrategy):
    def default(self, obj: Object) -> None:
        spec = child(obj, "spec")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        for direction in ("ingress", "egress"):
            for rule in spec.get(direction) or []:
                for port in rule.get("ports") or []:
                    set_default(port, "protocol", "TCP")


class AutoscalerStrategy(Strategy):
    def default(self, obj: Object) -> None:
        spec = child(obj, "spec")
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": UTILIZATION_PERCENT}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]

    def prepare_create(self, obj: Object) -> None:
        obj["status"] = {"desiredReplicas": 0, "currentMetrics": None}
