"""Whatever is sent, the answer is a Status below 500, and the server goes on."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.local.apiserver.compare import fill
from tests.local.apiserver.requests import kinds
from tests.local.apiserver.requests.asks import CRDS, WIDGET_CRD, cm, deployment, pod, service, widget
from tests.support.cluster import Cluster

EXAMPLES = int(os.environ.get("KAITO_FUZZ_EXAMPLES", "2500"))
"""Inputs per test, of which there are four."""
CREATES = {
    "/api/v1/namespaces/default/configmaps": cm("fuzz", {"a": "1"}),
    "/api/v1/namespaces/default/pods": pod("fuzz"),
    "/api/v1/namespaces/default/services": service("fuzz"),
    "/apis/apps/v1/namespaces/default/deployments": deployment("fuzz"),
    "/apis/example.com/v1/namespaces/default/widgets": widget("fuzz", size=1, any={"a": 1}),
    CRDS: {**WIDGET_CRD, "metadata": {"name": "fuzz.example.com"}},
}
EVERY_KIND = [
    (fill(ask.path, {"ns": "default"}), json.loads(fill(ask.body, {"ns": "default"})))
    for scenario in kinds.SCENARIOS.values()
    for ask in scenario
    if ask.method == "POST"
]
TYPES = st.sampled_from(
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain", "", "a/b;c=d"]
)
PATCH_TYPES = st.sampled_from(
    [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
        "application/json",
    ]
)
TEXTS = st.text(max_size=20)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), TEXTS)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


class Client:
    """One connection that is kept, opened again when the server closes it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._connection = cluster.connect()

    def send(self, method: str, path: str, body: bytes, media: str) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._cluster.token}"} | ({"Content-Type": media} if media else {})
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            self._connection = self._cluster.connect()
            raise

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    cluster = Cluster(tmp_path_factory.mktemp("fuzz") / "home")
    cluster.start()
    assert cluster.request("POST", CRDS, WIDGET_CRD).code == 201
    for path, body in CREATES.items():
        if path != CRDS:
            assert cluster.request("POST", path, body).code == 201
    made = Client(cluster)
    yield made
    assert cluster.request("GET", "/readyz").body == b"ok"
    made.close()
    cluster.stop()


def check(code: int, body: bytes) -> None:
    assert code < 500, body
    if code >= 400:
        status = json.loads(body)
        assert (status["kind"], status["code"]) == ("Status", code)


def mutate(value: Any, path: list[int], replacement: Any) -> Any:
    """The object with the part at the path (positions among its keys) replaced."""
    if not path or not isinstance(value, dict | list) or not value:
        return replacement
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    chosen = keys[path[0] % len(keys)]
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    changed[chosen] = mutate(value[chosen], path[1:], replacement)
    return changed


fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PATHS = st.lists(st.integers(0, 10), min_size=1, max_size=7)


@fuzzed
@given(path=st.sampled_from(list(CREATES)), body=st.binary(max_size=200), media=TYPES)
def test_noise(client: Client, path: str, body: bytes, media: str) -> None:
    check(*client.send("POST", path, body, media))
    check(*client.send("POST", path, b"k8s\x00" + body, "application/vnd.kubernetes.protobuf"))


@fuzzed
@given(create=st.sampled_from([*CREATES.items(), *EVERY_KIND]), where=PATHS, value=JSON)
def test_objects_with_one_part_wrong(
    client: Client, create: tuple[str, dict[str, Any]], where: list[int], value: Any
) -> None:
    path, body = create
    wrong = mutate({**body}, where, value)
    check(*client.send("POST", f"{path}?dryRun=All", json.dumps(wrong).encode(), "application/json"))


@fuzzed
@given(path=st.sampled_from(list(CREATES)[:5]), where=PATHS, value=JSON, media=PATCH_TYPES)
def test_patches_with_one_part_wrong(client: Client, path: str, where: list[int], value: Any, media: str) -> None:
    body = mutate({**CREATES[path]}, where, value)
    url = f"{path}/fuzz?dryRun=All&fieldManager=fuzz"
    check(*client.send("PATCH", url, json.dumps(body).encode(), media))
    operations = [{"op": "add", "path": "/" + "/".join(map(str, where)), "value": value}]
    check(*client.send("PATCH", url, json.dumps(operations).encode(), "application/json-patch+json"))


@fuzzed
@given(
    path=st.sampled_from(list(CREATES)),
    name=st.sampled_from(["labelSelector", "fieldSelector", "limit", "continue"]),
    value=TEXTS,
)
def test_queries(client: Client, path: str, name: str, value: str) -> None:
    check(*client.send("GET", f"{path}?{name}={quote(value)}", b"", ""))


@pytest.mark.parametrize(
    ("body", "media", "code"),
    [
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "application/json", 400),
        (b"{" + b'"a":1,' * 3, "application/json", 400),
        (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"' + b"k" * 300 + b'"}}', "application/json", 422),
        (b"x" * (4 * 1024 * 1024), "application/json", 413),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "application/yaml", 400),
        (b"a: !!python/object/apply:os.system [ls]", "application/yaml", 400),
        (b"\xff\xfe\x00", "application/yaml", 400),
        (b"- " * 30_000, "application/yaml", 400),
        (b"k8s\x00\xff\xff\xff\xff", "application/vnd.kubernetes.protobuf", 400),
        (b"{}", "application/cbor", 415),
    ],
    ids=[
        "brackets",
        "deep",
        "cut",
        "long-name",
        "large",
        "aliases",
        "tags",
        "not-utf8",
        "deep-yaml",
        "protobuf",
        "cbor",
    ],
)
def test_hostile_bodies(client: Client, body: bytes, media: str, code: int) -> None:
    got, answer = client.send("POST", "/api/v1/namespaces/default/configmaps", body, media)
    assert got == code, answer[:500]
    check(got, answer)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/../secrets",
        "/api/v1/namespaces/%2e%2e%2f/pods/x",
        "/../state.db",
        "/%2e%2e/pki/token",
        "//",
        "/",
    ],
)
def test_no_path_leads_out(client: Client, path: str) -> None:
    code, body = client.send("GET", path, b"", "")
    assert code == 404, body


def test_without_the_token_nothing_is_told(cluster: Cluster) -> None:
    for header in ("", "Bearer ", "Bearer wrong", "Bearer a.b.c", "Basic Zm9v", f"Token {cluster.token}"):
        answer = cluster.request("GET", "/api/v1/secrets", headers={"Authorization": header})
        assert (answer.code, answer.json()["reason"]) == (401, "Unauthorized"), header
    assert cluster.request("GET", "/version", headers={"Authorization": ""}).code == 200
    assert cluster.request("GET", "/readyz", headers={"Authorization": ""}).body == b"ok"
