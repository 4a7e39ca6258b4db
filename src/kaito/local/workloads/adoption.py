"""Who belongs to whom: an owner takes up orphans that its selector picks, and lets go of what it picks no more.

Labels decide, as in Kubernetes: a pod whose labels are changed leaves its ReplicaSet and is replaced; one that is made
by hand, or was orphaned when its owner was deleted, joins the owner that selects it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kaito.api.core import Generic
from kaito.api.meta import ObjectMeta
from kaito.kube.resources import Resource
from kaito.local.machinery.selectors import LabelSelector, from_label_selector
from kaito.local.workloads.objects import controller_reference, controller_uid, is_terminating
from kaito.local.workloads.plan import Patch


def selector_of(owner: Generic) -> LabelSelector | None:
    """What the owner selects; None for one that says nothing, which selects nothing."""
    selector = owner.spec.get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return None
    return from_label_selector(selector)


def selects(owner: Generic, child: Generic) -> bool:
    """Whether the child, which nobody controls, is the owner's to take."""
    selector = selector_of(owner)
    return (
        selector is not None
        and owner.metadata.namespace == child.metadata.namespace
        and not controller_uid(child.metadata)
        and not is_terminating(child)
        and selector.matches(child.metadata.labels)
    )


def plan_claims(
    resource: Resource[Any],
    owner: Generic,
    child_resource: Resource[Any],
    children: Iterable[Generic],
    orphans: Iterable[Generic],
) -> tuple[Patch, ...]:
    """Patches that make the owner's children those that it selects. An owner on its way out claims nothing."""
    if is_terminating(owner):
        return ()
    taken = [
        _patch(child_resource, child.metadata, [*_others(child, owner), controller_reference(resource, owner.metadata)])
        for child in orphans
        if selects(owner, child)
    ]
    selector = selector_of(owner)
    freed = [
        _patch(child_resource, child.metadata, _others(child, owner))
        for child in children
        if selector is not None and not is_terminating(child) and not selector.matches(child.metadata.labels)
    ]
    return (*taken, *freed)


def _others(child: Generic, owner: Generic) -> list[dict[str, Any]]:
    """The child's references to anybody but this owner."""
    return [
        {
            "apiVersion": one.apiVersion,
            "kind": one.kind,
            "name": one.name,
            "uid": one.uid,
            **({"controller": one.controller} if one.controller is not None else {}),
            **({"blockOwnerDeletion": one.blockOwnerDeletion} if one.blockOwnerDeletion is not None else {}),
        }
        for one in child.metadata.ownerReferences
        if one.uid != owner.metadata.uid
    ]


def _patch(resource: Resource[Any], metadata: ObjectMeta, references: list[dict[str, Any]]) -> Patch:
    body = {"metadata": {"uid": metadata.uid, "ownerReferences": references or None}}
    return Patch(resource, metadata.namespace, metadata.name, body)
