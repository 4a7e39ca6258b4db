"""What PodDisruptionBudgets allow, worked out at the moment of an eviction.

kube-controller-manager keeps the count of allowed disruptions in each budget's status; here nobody does, so it is
counted from the pods themselves. The rules and words are those of Kubernetes' eviction subresource.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from kaito.local.machinery import errors
from kaito.local.machinery.selectors import from_label_selector
from kaito.local.store.records import Object
from kaito.local.store.store import Store

BUDGETS = "poddisruptionbudgets.policy"
CONTROLLERS = {
    "ReplicaSet": "replicasets.apps",
    "StatefulSet": "statefulsets.apps",
    "ReplicationController": "replicationcontrollers",
}
"""Owners of pods that have a scale, and the bucket that each is stored in."""
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
RETRY_SECONDS = 10


def check_budgets(store: Store, pod: Object) -> None:
    """Raises StatusError 429 when a budget does not allow that `pod` goes, 500 when more than one covers it."""
    if pod.get("metadata", {}).get("deletionTimestamp") or _phase(pod) in ("Succeeded", "Failed", "Pending"):
        return
    budgets = [record.value for record in store.records(BUDGETS, pod["metadata"]["namespace"])]
    covering = [budget for budget in budgets if _covers(budget, pod)]
    if len(covering) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise errors.internal(message)
    if covering:
        _check_budget(store, covering[0], pod)


def _check_budget(store: Store, budget: Object, pod: Object) -> None:
    namespace = pod["metadata"]["namespace"]
    pods = [record.value for record in store.records("pods", namespace) if _covers(budget, record.value)]
    counted = [one for one in pods if _phase(one) not in ("Succeeded", "Failed")]
    healthy = sum(1 for one in counted if _is_healthy(one))
    desired = _desired(budget, _expected(store, namespace, counted))
    if _is_healthy(pod):
        allowed = healthy - desired > 0
    else:
        always = budget.get("spec", {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        allowed = always or (healthy >= desired > 0)
    if allowed:
        return
    name = budget["metadata"]["name"]
    cause = f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    details = {"causes": [{"reason": "DisruptionBudget", "message": cause}], "retryAfterSeconds": RETRY_SECONDS}
    raise errors.StatusError(429, "TooManyRequests", REFUSED, details)


def _covers(budget: Object, pod: Object) -> bool:
    selector = from_label_selector(budget.get("spec", {}).get("selector"))
    return selector.matches(pod["metadata"].get("labels") or {})


def _is_healthy(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase") or "Pending")


def _expected(store: Store, namespace: str, pods: Iterable[Object]) -> int:
    """How many pods there should be: the scale of their controllers, and one for each pod that has none."""
    scales = {
        record.value["metadata"]["uid"]: int(record.value.get("spec", {}).get("replicas", 1))
        for bucket in CONTROLLERS.values()
        for record in store.records(bucket, namespace)
    }
    owners: set[str] = set()
    alone = 0
    for pod in pods:
        references = pod["metadata"].get("ownerReferences") or []
        owner = next((one["uid"] for one in references if one.get("controller")), "")
        if owner in scales:
            owners.add(owner)
        else:
            alone += 1
    return alone + sum(scales[owner] for owner in owners)


def _desired(budget: Object, expected: int) -> int:
    """How many must stay healthy. Percentages are rounded up, as Kubernetes rounds them."""
    spec = budget.get("spec", {})
    if spec.get("maxUnavailable") is not None:
        return max(0, expected - _count(spec["maxUnavailable"], expected))
    return _count(spec.get("minAvailable", 1), expected)


def _count(value: int | str, expected: int) -> int:
    text = str(value)
    if not text.removesuffix("%").isdigit():
        raise errors.internal(f"{text!r} in the disruption budget is neither a number nor a percentage")
    return math.ceil(int(text[:-1]) * expected / 100) if text.endswith("%") else int(text)
