"""The README's commands with Debian's kubectl, and a control plane that is killed while the model trains."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.machine import Machine, tuning
from tests.support.cluster import kubectl_path

pytestmark = [pytest.mark.slow, pytest.mark.tools, pytest.mark.xdist_group("e2e")]

NAME = "workspace-tuning-tiny-phi-3"


def training_step(machine: Machine) -> int:
    return int(machine.workspace(NAME).get("status", {}).get("tuning", {}).get("step", 0))


def test_kubectl_all_the_way_with_a_kill_in_the_middle(machine: Machine, samples: Path, tmp_path: Path) -> None:
    kubectl_path()  # skips without kubectl
    manifest = tmp_path / "tuning.yaml"
    manifest.write_text(tuning(NAME, machine.registry))
    assert machine.kubectl("apply", "-f", str(manifest)).stdout == f"workspace.kaito.sh/{NAME} created\n"

    machine.until(lambda: training_step(machine) > 0, patience=120, what="the training is seen at work")
    os.kill(machine.running["pid"], signal.SIGKILL)
    machine.start()
    assert machine.kubectl("get", "secret", "local-registry", "-o", "name").stdout == "secret/local-registry\n"

    machine.kaito("wait", NAME, "--timeout", "200", timeout=220)
    header, row = machine.kubectl("get", "workspace").stdout.splitlines()
    assert header.split() == ["NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "AGE"]
    assert row.split()[:5] == [NAME, "Standard_NC6s_v3", "True", "True", "True"]

    service = machine.kubectl("get", "svc", NAME).stdout.splitlines()[1].split()
    assert service[1] == "ClusterIP"
    assert service[3] == "<none>"
    assert service[4] == "80/TCP,29500/TCP"
    address = machine.kaito("url", NAME).stdout.strip()
    question = json.loads((samples / "questions.json").read_text())[0]
    assert ask(address, question["prompt"]) == question["answer"]


def ask(address: str, prompt: str) -> str:
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{address}/chat", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["Result"]).strip()
