"""What a pod asks of a node and what a node gives: exact decimals by resource name, CPU in cores, memory in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kaito.api.core import Generic
from kaito.local.machinery.quantity import QuantityError, parse_quantity

Amounts = Mapping[str, Decimal]

PODS = "pods"


def pod_requests(pod: Generic) -> dict[str, Decimal]:
    """The sum over containers that run together, or what one init container needs alone, whichever is more.

    An init container with `restartPolicy: Always` keeps running: it counts with the containers, and with the init
    containers after it. The pod itself is one of the node's `pods`.
    """
    together: dict[str, Decimal] = {}
    peak: dict[str, Decimal] = {}
    for container in pod.spec.get("initContainers") or ():
        needs = _container_requests(container)
        if container.get("restartPolicy") == "Always":
            together = _sum((together, needs))
            peak = _most(peak, together)
        else:
            peak = _most(peak, _sum((together, needs)))
    running = _sum((together, *(_container_requests(c) for c in pod.spec.get("containers") or ())))
    total = _sum((_most(running, peak), _amounts(pod.spec.get("overhead") or {})))
    return {name: amount for name, amount in total.items() if amount} | {PODS: Decimal(1)}


def allocatable(node: Generic) -> dict[str, Decimal]:
    return _amounts(node.status.get("allocatable") or node.status.get("capacity") or {})


def total_requests(pods: Iterable[Generic]) -> dict[str, Decimal]:
    return _sum(pod_requests(pod) for pod in pods)


def _container_requests(container: Mapping[str, Any]) -> dict[str, Decimal]:
    """A limit without a request is a request too."""
    resources = container.get("resources") or {}
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(quantities: Mapping[str, str | int]) -> dict[str, Decimal]:
    """What cannot be read counts as nothing: the API server refuses it in pods, a node of another hand may have it."""
    amounts = {}
    for name, text in quantities.items():
        try:
            amounts[name] = parse_quantity(text)
        except QuantityError:
            continue
    return amounts


def _sum(several: Iterable[Amounts]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for amounts in several:
        for name, amount in amounts.items():
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def _most(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in {*one, *other}}
