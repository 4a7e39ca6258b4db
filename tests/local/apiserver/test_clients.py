"""Other people's Python clients, each with a script that knows nothing of this server.

The scripts in `clients/` run as programs of their own, as their users run them, against the embedded server, and
against a real one where KUBEBUILDER_ASSETS names it: both must be told the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.local.apiserver.requests.asks import CRDS, WIDGET_CRD
from tests.support.cluster import Cluster
from tests.support.real_cluster import RealCluster

FOLDER = Path(__file__).parent / "clients"
PATIENCE = 120.0
BOTH = {"a": "1", "b": "2"}
SCRIPTS: dict[str, list[list[Any]]] = {
    "official": [
        ["created", "one", {"a": "1"}],
        ["listed", ["one"]],
        ["patched", BOTH],
        ["watched", "MODIFIED", BOTH],
        ["watched", "DELETED", BOTH],
        ["refused", 404, "Not Found"],
        ["created", {"size": 4}],
        ["listed", ["one"]],
        ["patched", {"size": 5}],
        ["status", {"phase": "Up"}],
        ["deleted", "Success"],
        ["applied", {"color": "red", "size": 3}],
        ["listed", ["two"]],
    ],
    "with_kr8s": [
        ["version", "1"],
        ["created", "one", {"a": "1"}],
        ["listed", ["one"]],
        ["patched", BOTH],
        ["labelled", {"who": "kr8s", "tier": "web"}],
        ["watched", "ADDED", BOTH],
        ["watched", "DELETED", BOTH],
        ["exists", False],
        ["created", {"size": 4, "replicas": 1}],
        ["listed", ["one"]],
        ["patched", {"size": 5, "replicas": 1}, {"phase": "Up"}],
        ["exists", False],
    ],
    "with_lightkube": [
        ["created", "one", {"a": "1"}],
        ["listed", ["one"]],
        ["patched", BOTH],
        ["watched", "ADDED", BOTH],
        ["watched", "DELETED", BOTH],
        ["refused", 404, "NotFound"],
        ["created", {"size": 4}],
        ["applied", {"size": 4, "color": "red"}],
        ["status", {"phase": "Up"}],
        ["listed", ["one"]],
    ],
}


def run_script(name: str, environment: dict[str, str]) -> list[Any]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_sees_what_it_expects(cluster: Cluster, name: str) -> None:
    assert cluster.request("POST", CRDS, WIDGET_CRD).code == 201
    assert run_script(name, cluster.environment()) == SCRIPTS[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_real_server_tells_it_the_same(real: RealCluster, name: str) -> None:
    real.create_crd(WIDGET_CRD)
    assert run_script(name, real.environment()) == SCRIPTS[name]
