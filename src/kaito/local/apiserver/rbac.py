"""Role-based access control over the stored Roles and bindings: what a service account's token may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kaito.local.apiserver.call import User
from kaito.local.store.records import Key, Object
from kaito.local.store.store import Store

GROUP = "rbac.authorization.k8s.io"
CLUSTER_ROLES = f"clusterroles.{GROUP}"
CLUSTER_BINDINGS = f"clusterrolebindings.{GROUP}"
ROLES = f"roles.{GROUP}"
BINDINGS = f"rolebindings.{GROUP}"
PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version", "/api", "/apis", "/openapi")
SELF_REVIEWS = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What somebody wants to do: to a resource, or to a path that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def target(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Authorizer:
    def __init__(self, store: Store) -> None:
        self._store = store

    def decide(self, user: User, wanted: Attributes) -> tuple[bool, str]:
        """Whether the user may, and by which rule."""
        if user.is_admin:
            return True, ""
        if wanted.path:
            public = any(wanted.path == path or wanted.path.startswith(path + "/") for path in PUBLIC_PATHS)
            if public and wanted.verb == "get":
                return True, ""
            rules = self._rules(user, "")
            return any(_allows_path(rule, wanted) for rule, _ in rules), ""
        if wanted.verb == "create" and wanted.resource in SELF_REVIEWS:
            return True, ""
        for rule, reason in self._rules(user, wanted.namespace):
            if _allows(rule, wanted):
                return True, reason
        return False, ""

    def rules(self, user: User, namespace: str) -> Object:
        """The status of a SelfSubjectRulesReview."""
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        rules = [everything] if user.is_admin else [rule for rule, _ in self._rules(user, namespace)]
        paths = [{"verbs": ["*"], "nonResourceURLs": ["*"]}] if user.is_admin else []
        return {"resourceRules": rules, "nonResourceRules": paths, "incomplete": False}

    def _rules(self, user: User, namespace: str) -> Iterator[tuple[Object, str]]:
        for binding in self._store.records(CLUSTER_BINDINGS):
            if _binds(binding.value, user, ""):
                reason = f'RBAC: allowed by ClusterRoleBinding "{binding.key.name}"'
                yield from ((rule, reason) for rule in self._role_rules(binding.value, ""))
        if not namespace:
            return
        for binding in self._store.records(BINDINGS, namespace):
            if _binds(binding.value, user, namespace):
                reason = f'RBAC: allowed by RoleBinding "{binding.key.name}/{namespace}"'
                yield from ((rule, reason) for rule in self._role_rules(binding.value, namespace))

    def _role_rules(self, binding: Object, namespace: str) -> list[Object]:
        reference = binding.get("roleRef") or {}
        cluster = reference.get("kind") == "ClusterRole"
        key = Key(CLUSTER_ROLES if cluster else ROLES, "" if cluster else namespace, str(reference.get("name")))
        role = self._store.get(key)
        return list(role.value.get("rules") or []) if role else []


def _binds(binding: Object, user: User, namespace: str) -> bool:
    for subject in binding.get("subjects") or []:
        kind, name = subject.get("kind"), subject.get("name")
        if kind == "User" and name == user.name:
            return True
        if kind == "Group" and name in user.groups:
            return True
        if kind == "ServiceAccount":
            home = subject.get("namespace") or namespace
            if user.name == f"system:serviceaccount:{home}:{name}":
                return True
    return False


def _allows(rule: Object, wanted: Attributes) -> bool:
    resources = rule.get("resources") or []
    names = rule.get("resourceNames") or []
    return (
        _has(rule.get("verbs") or [], wanted.verb)
        and _has(rule.get("apiGroups") or [], wanted.group)
        and (_has(resources, wanted.target) or (bool(wanted.subresource) and f"*/{wanted.subresource}" in resources))
        and (not names or wanted.name in names)
    )


def _allows_path(rule: Object, wanted: Attributes) -> bool:
    paths = rule.get("nonResourceURLs") or []
    found = any(path == wanted.path or (path.endswith("*") and wanted.path.startswith(path[:-1])) for path in paths)
    return found and _has(rule.get("verbs") or [], wanted.verb)


def _has(allowed: list[str], wanted: str) -> bool:
    return "*" in allowed or wanted in allowed
