"""Whether a node is one that a pod asks for (selector, affinity), and one that tolerates it (taints)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaito.api.core import Generic

UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "value": ""}


def is_wanted_node(pod: Generic, node: Generic) -> bool:
    """`nodeSelector` and the required part of `nodeAffinity` both allow the node."""
    selector = pod.spec.get("nodeSelector") or {}
    if not selector.items() <= node.metadata.labels.items():
        return False
    required = _node_affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def preference(pod: Generic, node: Generic) -> int:
    """The weights of the preferred terms that the node meets."""
    terms = _node_affinity(pod).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(int(term.get("weight", 0)) for term in terms if matches_term(term.get("preference") or {}, node))


def untolerated_taint(pod: Generic, node: Generic) -> Mapping[str, str] | None:
    """The first taint that keeps the pod away."""
    return next((taint for taint in _taints(node, "NoSchedule", "NoExecute") if not tolerates(pod, taint)), None)


def discouraging_taints(pod: Generic, node: Generic) -> int:
    return sum(not tolerates(pod, taint) for taint in _taints(node, "PreferNoSchedule"))


def tolerates(pod: Generic, taint: Mapping[str, str]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in pod.spec.get("tolerations") or ())


def matches_term(term: Mapping[str, Any], node: Generic) -> bool:
    """All expressions over labels, and all over fields, hold. A term without any matches nothing, as in Kubernetes."""
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    names = {"metadata.name": node.metadata.name}
    return all(_holds(e, node.metadata.labels) for e in expressions) and all(_holds(f, names) for f in fields)


def _node_affinity(pod: Generic) -> Mapping[str, Any]:
    return (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}


def _taints(node: Generic, *effects: str) -> Sequence[Mapping[str, str]]:
    return [taint for taint in node.spec.get("taints") or () if taint.get("effect") in effects]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    same_key = toleration.get("key", "") == taint.get("key")
    return same_key and (toleration.get("value") or "") == (taint.get("value") or "")


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    wanted = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(expression["operator"], value, wanted)
    return False


def _compares(operator: str, value: str | None, wanted: Sequence[str]) -> bool:
    """Both sides are whole numbers, or nothing matches."""
    try:
        left, right = int(value or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return left > right if operator == "Gt" else left < right
