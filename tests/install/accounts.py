"""A service account as its pod has it: a kubeconfig with its token, and the record of what it asked the API server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kaito.install.kinds import resource_of
from kaito.install.render import Object, read_values, render, render_namespace
from kaito.kube.client import Client
from kaito.kube.resources import untyped
from kaito.local.apiserver.call import User
from kaito.local.apiserver.rbac import Attributes
from tests.support.cluster import Cluster

NAMESPACE = "kaito-system"
ACCOUNTS = untyped("", "v1", "serviceaccounts", "ServiceAccount", True)
RIGHTS = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount", "Namespace")
Atom = tuple[str, str, str, str, str]
"""Where (a namespace or all), group, resource, verb, name: the smallest part of a rule."""


@dataclass
class Audit:
    """What each account asked for."""

    asked: dict[str, set[Attributes]] = field(default_factory=dict)
    denied: dict[str, set[Attributes]] = field(default_factory=dict)

    def __call__(self, user: User, wanted: Attributes, allowed: bool) -> None:
        if wanted.path:
            return
        kept = self.asked if allowed else self.denied
        kept.setdefault(user.name.rpartition(":")[2], set()).add(wanted)


def atoms(objects: Iterable[Object], account: str) -> set[Atom]:
    """All that the account's roles grant, taken apart."""
    found: set[Atom] = set()
    for body in objects:
        if body["kind"] in ("ClusterRole", "Role") and body["metadata"]["name"] == account:
            where = body["metadata"].get("namespace", "")
            for rule in body["rules"]:
                found |= {
                    (where, group, resource, verb, name)
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                    for name in rule.get("resourceNames", [""])
                }
    return found


def covers(atom: Atom, asked: Attributes) -> bool:
    where, group, resource, verb, name = atom
    return (
        where in ("", asked.namespace)
        and (group, resource, verb) == (asked.group, asked.target, asked.verb)
        and name in ("", asked.name)
    )


def unused(granted: set[Atom], asked: set[Attributes]) -> set[Atom]:
    """Grants without which every request would still have been allowed."""
    return {one for one in granted if all(any(covers(a, q) for a in granted - {one}) for q in asked if covers(one, q))}


def without(objects: list[Object], account: str, group: str, resource: str, verb: str) -> list[Object]:
    """The objects, with one right left out of the account's ClusterRole."""
    changed = []
    for body in objects:
        if body["kind"] == "ClusterRole" and body["metadata"]["name"] == account:
            body = {**body, "rules": [one for rule in body["rules"] for one in _taken_apart(rule)]}
            lost = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
            assert lost in body["rules"]
            body["rules"].remove(lost)
        changed.append(body)
    return changed


def _taken_apart(rule: Object) -> list[Object]:
    return [
        {**rule, "resources": [resource], "verbs": [verb]} for resource in rule["resources"] for verb in rule["verbs"]
    ]


def rendered(*settings: str) -> list[Object]:
    return [*render_namespace(NAMESPACE), *render(read_values([], settings), NAMESPACE)]


async def grant(user: Client, objects: list[Object]) -> None:
    """Apply the roles alone."""
    for body in objects:
        if body["kind"] in RIGHTS:
            await user.apply(resource_of(body), body, body["metadata"].get("namespace", ""))


async def token_of(user: Client, account: str) -> str:
    """As kubelet gets it for a pod of the account."""
    body: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await user.request("token", "POST", ACCOUNTS.path(NAMESPACE, account, "token"), {}, body)
    return str(msgspec.json.decode(answer)["status"]["token"])


async def kubeconfig_of(user: Client, cluster: Cluster, account: str, folder: Path) -> Path:
    """As the pod's own token would be: nothing but the account's rights."""
    token = await token_of(user, account)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for one in config["users"]:
        one["user"] = {"token": token}
    path = folder / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
