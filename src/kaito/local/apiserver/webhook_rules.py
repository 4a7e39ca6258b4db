"""Which writes a webhook wants to see: its rules, and its selectors of namespaces and objects."""

from __future__ import annotations

from dataclasses import dataclass

from kaito.local.apiserver.call import Call
from kaito.local.apiserver.resources import Resource
from kaito.local.store.records import Object


@dataclass(frozen=True)
class Match:
    """A webhook wants the write, as an object of this resource's version."""

    resource: Resource

    def converted(self, obj: Object | None) -> Object | None:
        return None if obj is None else {**obj, "apiVersion": self.resource.info.api_version}


def find_match(
    webhook: Object,
    call: Call,
    operation: str,
    obj: Object | None,
    old: Object | None,
    versions: list[Resource],
    namespace_labels: dict[str, str] | None,
) -> Match | None:
    """`versions` begins with the request's own; the others count under the policy Equivalent, which is the default."""
    if webhook.get("matchPolicy", "Equivalent") == "Exact":
        versions = versions[:1]
    rules = webhook.get("rules") or []
    found = next((one for one in versions if any(_wants(rule, one, call, operation) for rule in rules)), None)
    if found is None or not _selects_namespace(webhook, call, obj or old, namespace_labels):
        return None
    selector = webhook.get("objectSelector") or {}
    labels = [(one.get("metadata") or {}).get("labels") or {} for one in (obj, old) if one is not None]
    if not any(selects(selector, one) for one in labels):
        return None
    return Match(found)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """A metav1.LabelSelector; the empty one selects everything."""
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(requirement: Object, labels: dict[str, str]) -> bool:
    name, values = requirement.get("key", ""), requirement.get("values") or []
    operator = requirement.get("operator")
    if operator == "In":
        return labels.get(name) in values
    if operator == "NotIn":
        return labels.get(name) not in values
    return (name in labels) == (operator == "Exists")


def _wants(rule: Object, resource: Resource, call: Call, operation: str) -> bool:
    info = resource.info
    target = f"{info.plural}/{call.subresource}" if call.subresource else info.plural
    wild = {f"{info.plural}/*", f"*/{call.subresource}", "*/*"} if call.subresource else {"*", "*/*"}
    scope = rule.get("scope") or "*"
    return (
        _has(rule.get("operations") or [], operation)
        and _has(rule.get("apiGroups") or [], info.group)
        and _has(rule.get("apiVersions") or [], info.version)
        and not wild.union({target}).isdisjoint(rule.get("resources") or [])
        and scope in ("*", "Namespaced" if info.namespaced else "Cluster")
    )


def _selects_namespace(webhook: Object, call: Call, obj: Object | None, labels: dict[str, str] | None) -> bool:
    selector = webhook.get("namespaceSelector") or {}
    if call.resource.bucket == "namespaces":
        labels = ((obj or {}).get("metadata") or {}).get("labels") or {}
    return labels is None or selects(selector, labels)


def _has(allowed: list[str], wanted: str) -> bool:
    return "*" in allowed or wanted in allowed
