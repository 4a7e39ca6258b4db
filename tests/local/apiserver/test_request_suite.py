"""The request suite against the embedded server, and against a real one where KUBEBUILDER_ASSETS names it.

What a real kube-apiserver answered is kept in `recorded.json`, so that the embedded server is held to it, field by
field, on machines that have no real one. With KUBEBUILDER_ASSETS and KAITO_RECORD=1 that file is written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local.apiserver.compare import check, comparable, differences, send
from tests.local.apiserver.requests import SCENARIOS, gadgets
from tests.local.apiserver.requests.asks import CRDS, WIDGET_CRD, Ask
from tests.support.cluster import Cluster
from tests.support.real_cluster import RealCluster

RECORDED = Path(__file__).with_name("recorded.json")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("suite") / "home")
    cluster.start()
    for definition in (WIDGET_CRD, gadgets.CRD):
        assert cluster.request("POST", CRDS, definition).code == 201
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def recorded() -> Iterator[dict[str, list[Any]]]:
    """Scenario -> code and document of each of its answers."""
    known: dict[str, list[Any]] = json.loads(RECORDED.read_text())
    yield known
    if os.environ.get("KAITO_RECORD") == "1":
        lines = (f"{json.dumps(name)}: {json.dumps(known[name], separators=(',', ':'))}" for name in sorted(known))
        RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def create_namespace(cluster: Cluster | RealCluster, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    assert cluster.request("POST", "/api/v1/namespaces", body).code == 201


def play(cluster: Cluster | RealCluster, name: str) -> list[list[Any]]:
    """All requests of a scenario in a namespace of its own; their answers, checked and comparable."""
    names = {"ns": f"suite-{name}"}
    create_namespace(cluster, names["ns"])
    answers = []
    for ask in SCENARIOS[name]:
        answer = send(cluster, ask, names)
        check(answer, ask, names, real=isinstance(cluster, RealCluster))
        answers.append(comparable(answer, ask))
    return answers


def told(name: str, ours: list[Any], theirs: list[Any]) -> str:
    """Every difference, under the request that it answers; empty when there is none."""
    lines = []
    for ask, one, other in zip(SCENARIOS[name], ours, theirs, strict=True):
        found = list(differences(one[1], other[1]))
        if found:
            lines += [f"{ask.method} {ask.path} {_shown(ask)}", *(f"    {line}" for line in found)]
    return "\n".join(lines)


def _shown(ask: Ask) -> str:
    return json.dumps(ask.body)[:200] if ask.body is not None else ""


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(served: Cluster, recorded: dict[str, list[Any]], name: str) -> None:
    ours = play(served, name)
    assert name in recorded, "record what a real server answers: KAITO_RECORD=1 and KUBEBUILDER_ASSETS"
    found = told(name, ours, recorded[name])
    assert not found, f"the embedded server answers otherwise than a real one did:\n{found}"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_real_server_still_answers_as_recorded(real: RealCluster, recorded: dict[str, list[Any]], name: str) -> None:
    for definition in (WIDGET_CRD, gadgets.CRD):
        real.create_crd(definition)
    theirs = play(real, name)
    if os.environ.get("KAITO_RECORD") == "1":
        recorded[name] = theirs
    found = told(name, recorded[name], theirs)
    assert not found, f"the recording is not what this server answers:\n{found}"


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
            names = {"ns": name}
            for ask in SCENARIOS[name]:
                send(cluster, ask, names)
        paths = [
            *("/api/v1/services", "/api/v1/events", "/apis/apps/v1/deployments", "/api/v1/namespaces", CRDS),
            *("/apis/example.com/v1/widgets", "/apis/example.com/v1beta1/widgets", "/api/v1/configmaps"),
        ]
        before = [cluster.request("GET", path).json() for path in paths]
        cluster.restart()
        assert [cluster.request("GET", path).json() for path in paths] == before
    finally:
        cluster.stop()
