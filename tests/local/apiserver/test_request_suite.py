"""The request suite against the embedded server, and against a real one where KUBEBUILDER_ASSETS names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local.apiserver.request_suite import CRDS, SCENARIOS, WIDGET_CRD, Ask
from tests.support.cluster import Answer, Cluster

ABSENT = object()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("suite") / "home")
    cluster.start()
    assert cluster.request("POST", CRDS, WIDGET_CRD).code == 201
    yield cluster
    cluster.stop()


def fill(value: Any, namespace: str) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("{ns}", namespace)


def find(value: Any, path: str) -> Any:
    """By a dotted path. Keys may hold dots themselves, so the longest key that is there wins."""
    parts = path.split(".")
    while parts:
        if isinstance(value, list):
            position = int(parts.pop(0))
            value = value[position] if position < len(value) else ABSENT
        elif isinstance(value, dict):
            for size in range(len(parts), 0, -1):
                if ".".join(parts[:size]) in value:
                    value = value[".".join(parts[:size])]
                    parts = parts[size:]
                    break
            else:
                return ABSENT
        else:
            return ABSENT
    return value


def send(cluster: Cluster, ask: Ask, namespace: str) -> Answer:
    headers = {"Accept": ask.accept}
    body = None
    if ask.body is not None:
        headers["Content-Type"] = ask.media
        body = fill(ask.body, namespace)
    return cluster.request(ask.method, fill(ask.path, namespace), body, headers)


def check(answer: Answer, ask: Ask, namespace: str) -> None:
    told = f"{ask.method} {ask.path} answered {answer.code}: {answer.body[:1500].decode(errors='replace')}"
    assert answer.code == ask.code, told
    got = answer.json()
    if answer.code >= 400:
        assert (got["kind"], got["status"], got["code"]) == ("Status", "Failure", ask.code), told
    for path, wanted in ask.want.items():
        value = find(got, path)
        if isinstance(wanted, str) and wanted.endswith("?"):
            continue  # differs from server to server; that it answers is the point
        if wanted is None:
            assert value in (ABSENT, None), f"{path} of {told}"
        else:
            expected = json.loads(fill(json.dumps(wanted), namespace))
            assert value == expected, f"{path} of {told}"


def create_namespace(cluster: Cluster, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    assert cluster.request("POST", "/api/v1/namespaces", body).code == 201


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(served: Cluster, name: str) -> None:
    namespace = f"suite-{name}"
    create_namespace(served, namespace)
    for ask in SCENARIOS[name]:
        check(send(served, ask, namespace), ask, namespace)


def test_the_suite_is_large_enough() -> None:
    assert sum(map(len, SCENARIOS.values())) >= 150


def test_the_same_answers_after_a_restart(tmp_path: Path) -> None:
    """What the suite leaves behind is read back from the disk as it was."""
    cluster = Cluster(tmp_path / "home")
    cluster.start()
    try:
        cluster.request("POST", CRDS, WIDGET_CRD)
        for name in ("custom-resources", "deployments", "finalizers", "services", "events-in-both-groups"):
            create_namespace(cluster, name)
            for ask in SCENARIOS[name]:
                send(cluster, ask, name)
        paths = [
            *("/api/v1/services", "/api/v1/events", "/apis/apps/v1/deployments", "/api/v1/namespaces", CRDS),
            *("/apis/example.com/v1/widgets", "/apis/example.com/v1beta1/widgets", "/api/v1/configmaps"),
        ]
        before = [cluster.request("GET", path).json() for path in paths]
        cluster.restart()
        assert [cluster.request("GET", path).json() for path in paths] == before
    finally:
        cluster.stop()
