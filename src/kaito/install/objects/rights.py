"""Roles and bindings, from the rules that the rooms write beside their code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaito.api.workspace import GROUP as WORKSPACE_GROUP
from kaito.install.objects.common import (
    HAS_POOLS,
    HAS_PROVISIONER,
    HAS_WEBHOOK,
    NAMESPACE,
    OPERATOR,
    PROVISIONED,
    PROVISIONER,
    metadata,
)
from kaito.install.template import All, Condition, Document, Equals, Is, When
from kaito.kube.rules import Rule
from kaito.nodes import rbac as provisioner
from kaito.workspace import rbac as operator

FILE = "rbac.yaml"
GROUP = "rbac.authorization.k8s.io"
IS_SIMULATED = Equals("provisioner.provider", "simulated")
MADE = Is("rbac.create")


def rights_documents() -> list[Document]:
    cluster = [
        *_bodies(operator.ALWAYS),
        _when(PROVISIONED, operator.CLAIMS),
        _when(HAS_POOLS, operator.POOLS),
        _when(HAS_WEBHOOK, operator.WEBHOOK),
    ]
    own = [*_bodies(operator.OWN_LEASE), _when(HAS_WEBHOOK, operator.OWN_CERTIFICATE)]
    nodes = [*_bodies(provisioner.ALWAYS), _when(IS_SIMULATED, provisioner.MAKES_NODES)]
    with_provisioner = All((MADE, HAS_PROVISIONER))
    return [
        *_granted(OPERATOR, cluster, own, MADE),
        *_granted(PROVISIONER, nodes, _bodies(provisioner.OWN_LEASE), with_provisioner),
        *_for_people(),
    ]


def _for_people() -> list[Document]:
    """What Kubernetes' own roles view, edit and admin lack: who may write Deployments may then write Workspaces."""
    read, write = ["get", "list", "watch"], ["create", "update", "patch", "delete", "deletecollection"]
    rules = {
        ("view", ("view", "edit", "admin")): Rule(WORKSPACE_GROUP, ["workspaces", "workspaces/status"], read),
        ("edit", ("edit", "admin")): Rule(WORKSPACE_GROUP, ["workspaces"], write),
    }
    documents: list[Document] = []
    for (name, roles), rule in rules.items():
        head = metadata(f"kaito-workspaces-{name}", namespaced=False)
        labels = {f"{GROUP}/aggregate-to-{role}": "true" for role in roles}
        body = {"apiVersion": f"{GROUP}/v1", "kind": "ClusterRole", "rules": [rule.body]}
        named = {**head, "labels": {**head["labels"], **labels}}
        documents.append(Document(FILE, {**body, "metadata": named}, Is("rbac.aggregate")))
    return documents


def _granted(account: str, cluster: list[Any], own: list[Any], condition: Condition) -> list[Document]:
    """A role for the cluster and one for the own namespace, both bound to the account."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    documents: list[Document] = []
    for kind, rules in (("ClusterRole", cluster), ("Role", own)):
        named = metadata(account, namespaced=kind == "Role")
        head = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": named}
        reference = {"apiGroup": GROUP, "kind": kind, "name": account}
        binding = {**head, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]}
        documents += [Document(FILE, {**head, "rules": rules}, condition), Document(FILE, binding, condition)]
    return documents


def _bodies(rules: Sequence[Rule]) -> list[Any]:
    return [rule.body for rule in rules]


def _when(condition: Condition, rules: Sequence[Rule]) -> When:
    return When(condition, _bodies(rules))
