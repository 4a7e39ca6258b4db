"""Service accounts' tokens: who they are, what RBAC lets them do, how long they are good."""

from __future__ import annotations

from typing import Any

from tests.support.cluster import Answer, Cluster

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
GROUP = "rbac.authorization.k8s.io"


def token_of(cluster: Cluster, seconds: int = 600) -> Answer:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
    return cluster.request("POST", f"{ACCOUNTS}/default/token", body)


def allow(cluster: Cluster, rule: dict[str, Any]) -> None:
    role = {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [rule]}
    assert cluster.request("POST", f"{RBAC}/roles", role).code == 201
    binding = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    }
    assert cluster.request("POST", f"{RBAC}/rolebindings", binding).code == 201


def test_a_token_may_do_what_its_roles_say(cluster: Cluster) -> None:
    answer = token_of(cluster)
    assert answer.code == 201
    token = answer.json()["status"]["token"]
    refused = cluster.request("GET", "/api/v1/namespaces/default/configmaps", token=token)
    assert refused.code == 403
    assert refused.json()["message"] == (
        'configmaps is forbidden: User "system:serviceaccount:default:default" cannot list resource "configmaps" '
        'in API group "" in the namespace "default"'
    )
    allow(cluster, {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]})
    assert cluster.request("GET", "/api/v1/namespaces/default/configmaps", token=token).code == 200
    assert cluster.request("GET", "/api/v1/namespaces/kube-system/configmaps", token=token).code == 403
    assert cluster.request("DELETE", "/api/v1/namespaces/default/configmaps", token=token).code == 403
    assert cluster.request("GET", "/api/v1/namespaces/default/secrets", token=token).code == 403


def test_nobody_speaks_for_others_without_leave(cluster: Cluster) -> None:
    token = token_of(cluster).json()["status"]["token"]
    headers = {"Impersonate-User": "kaito-admin", "Impersonate-Group": "system:masters"}
    assert cluster.request("GET", "/api/v1/secrets", headers=headers, token=token).code == 403


def test_a_forged_token_is_none(cluster: Cluster) -> None:
    token = token_of(cluster).json()["status"]["token"]
    head, body, _ = token.split(".")
    for forged in (f"{head}.{body}.", f"{head}.{body}.AAAA", f"{head}.{body[:-2]}AA.{token.split('.')[2]}", "..", ""):
        headers = {"Authorization": f"Bearer {forged}"}
        assert cluster.request("GET", "/api/v1/pods", headers=headers).code == 401, forged


def test_a_token_request_is_checked(cluster: Cluster) -> None:
    assert token_of(cluster, seconds=10).code == 422
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    assert cluster.request("POST", f"{ACCOUNTS}/nobody/token", body).code == 404


def test_a_token_outlives_a_restart_of_the_server(cluster: Cluster) -> None:
    token = token_of(cluster).json()["status"]["token"]
    cluster.restart()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).json()["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == "system:serviceaccount:default:default"
