"""Admission webhooks: asked by their rules, obeyed, and passed over or not when they fail."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaito.kube.certificates import make_certificate
from tests.local.apiserver.requests.asks import CRDS, WIDGET_CRD, widget
from tests.support.cluster import Cluster

CM = "/api/v1/namespaces/default/configmaps"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"


class Hook:
    """An HTTPS server that records what it is asked and answers as told."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", name: str = "localhost") -> None:
        certificate = make_certificate([name, "localhost"], datetime.now(UTC))
        folder.mkdir()
        pair = folder / "pair.pem"
        pair.write_bytes(certificate.key + certificate.certificate)
        self.bundle = base64.b64encode(certificate.authority).decode()
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"allowed": True}
        hook = self

        class Requests(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.asked.append(review["request"])
                response = {"uid": review["request"]["uid"], **hook.answer}
                body = json.dumps({**review, "response": response}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((host, 0), Requests)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"https://localhost:{self.port}/admit"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Hook]:
    made = Hook(tmp_path / "hook")
    yield made
    made.stop()


def register(cluster: Cluster, hook: Hook, plural: str, resource: str, group: str = "", **changes: Any) -> None:
    kind = {"v": "ValidatingWebhookConfiguration", "m": "MutatingWebhookConfiguration"}[plural[0]]
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["*"]}
    webhook = {
        "name": "check.example.com",
        "clientConfig": {"url": hook.url, "caBundle": hook.bundle},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **changes,
    }
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "check"},
        "webhooks": [webhook],
    }
    answer = cluster.request("POST", f"{CONFIGURATIONS}/{plural}", body)
    assert answer.code == 201, answer.body


def config_map(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", **metadata}, "data": {"a": "1"}}


def test_a_denial_is_passed_on(cluster: Cluster, hook: Hook) -> None:
    register(cluster, hook, "validatingwebhookconfigurations", "configmaps")
    hook.answer = {"allowed": False, "status": {"message": "no room", "code": 403, "reason": "Forbidden"}}
    answer = cluster.request("POST", CM, config_map())
    assert answer.code == 403
    assert answer.json()["message"] == 'admission webhook "check.example.com" denied the request: no room'
    assert cluster.request("GET", f"{CM}/one").code == 404
    hook.answer = {"allowed": True, "warnings": ["mind the gap"]}
    allowed = cluster.request("POST", CM, config_map())
    assert allowed.code == 201
    assert allowed.headers["Warning"] == '299 - "mind the gap"'
    asked = hook.asked[-1]
    assert (asked["operation"], asked["name"], asked["namespace"]) == ("CREATE", "one", "default")
    assert asked["userInfo"]["username"] == "kaito-admin"
    cluster.request("DELETE", f"{CM}/one")
    assert (hook.asked[-1]["operation"], hook.asked[-1]["object"]) == ("DELETE", None)
    assert hook.asked[-1]["oldObject"]["data"] == {"a": "1"}


def test_a_mutation_is_applied_and_validated(cluster: Cluster, hook: Hook) -> None:
    register(cluster, hook, "mutatingwebhookconfigurations", "configmaps")
    patch = [{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}]
    hook.answer = {
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
    }
    assert cluster.request("POST", CM, config_map()).json()["metadata"]["labels"] == {"seen": "yes"}
    bad = [{"op": "add", "path": "/metadata/labels", "value": {"not ok": "yes"}}]
    hook.answer["patch"] = base64.b64encode(json.dumps(bad).encode()).decode()
    assert cluster.request("POST", CM, config_map(name="two")).code == 422


def test_a_webhook_that_fails(cluster: Cluster, hook: Hook) -> None:
    register(cluster, hook, "validatingwebhookconfigurations", "configmaps", failurePolicy="Ignore")
    hook.answer = {"uid": "another"}
    assert cluster.request("POST", CM, config_map()).code == 201
    cluster.request("DELETE", f"{CONFIGURATIONS}/validatingwebhookconfigurations/check")
    register(cluster, hook, "validatingwebhookconfigurations", "configmaps")
    refused = cluster.request("POST", CM, config_map(name="two"))
    assert refused.code == 500
    assert 'failed calling webhook "check.example.com"' in refused.json()["message"]


def test_only_what_is_selected_is_asked_about(cluster: Cluster, hook: Hook) -> None:
    selector = {"matchLabels": {"watched": "yes"}}
    register(
        cluster, hook, "validatingwebhookconfigurations", "configmaps", objectSelector=selector, sideEffects="Some"
    )
    cluster.request("POST", CM, config_map())
    cluster.request("POST", "/api/v1/namespaces/default/secrets", {**config_map(), "kind": "Secret", "data": {}})
    assert hook.asked == []
    cluster.request("POST", CM, config_map(name="two", labels={"watched": "yes"}))
    assert len(hook.asked) == 1
    assert cluster.request("POST", f"{CM}?dryRun=All", config_map(name="three", labels={"watched": "yes"})).code == 400


def test_another_version_of_the_kind_is_seen_in_the_version_of_the_rule(cluster: Cluster, hook: Hook) -> None:
    cluster.request("POST", CRDS, WIDGET_CRD)
    register(cluster, hook, "validatingwebhookconfigurations", "widgets", "example.com")
    body = {**widget(size=1), "apiVersion": "example.com/v1beta1"}
    assert cluster.request("POST", "/apis/example.com/v1beta1/namespaces/default/widgets", body).code == 201
    asked = hook.asked[0]
    assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v1beta1")
    assert asked["object"]["apiVersion"] == "example.com/v1"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        pytest.param({}, "webhooks[0].clientConfig", id="neither url nor service"),
        pytest.param({"url": "http://127.0.0.1/"}, "webhooks[0].clientConfig.url", id="no TLS"),
        pytest.param({"service": {"name": "a"}}, "webhooks[0].clientConfig.service.namespace", id="no namespace"),
    ],
)
def test_webhooks_that_cannot_be_called_are_refused(cluster: Cluster, config: dict[str, Any], field: str) -> None:
    webhook = {
        "name": "check.example.com",
        "clientConfig": config,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "check"},
        "webhooks": [webhook],
    }
    answer = cluster.request("POST", f"{CONFIGURATIONS}/validatingwebhookconfigurations", body)
    assert (answer.code, answer.json()["details"]["causes"][0]["field"]) == (422, field)


def test_a_service_is_called_at_its_address_and_by_its_name(cluster: Cluster, tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443}]}}
    made = cluster.request("POST", "/api/v1/namespaces/default/services", service).json()
    hook = Hook(tmp_path / "served", made["spec"]["clusterIP"], "hook.default.svc")
    try:
        reference = {"name": "hook", "namespace": "default", "path": "/admit", "port": hook.port}
        register(
            cluster,
            hook,
            "validatingwebhookconfigurations",
            "configmaps",
            clientConfig={"service": reference, "caBundle": hook.bundle},
        )
        hook.answer = {"allowed": False, "status": {"message": "never on a Thursday"}}
        answer = cluster.request("POST", CM, config_map(name="a"))
        assert "never on a Thursday" in answer.json()["message"]
    finally:
        hook.stop()
    answer = cluster.request("POST", CM, config_map(name="a"))
    assert 'Post "https://hook.default.svc' in answer.json()["message"], "whom it called is told"
