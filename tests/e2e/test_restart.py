"""What a person's work survives: a control plane that is killed, and one that is stopped and started again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import Machine, tuning
from tests.e2e.writes import count_writes, settle

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

SERVED = "survivor"
STEADY_SECONDS = 15


@pytest.fixture(scope="module")
def served(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Workspace whose tuned model answers."""
    machine.apply(tmp_path_factory.mktemp("manifest"), tuning(SERVED, machine.registry))
    machine.kaito("wait", SERVED, "--timeout", "280", timeout=300)
    return SERVED


def objects(machine: Machine, plural: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(machine.kubectl("get", plural, "-o", "json").stdout)["items"]
    return listed


def serving_pods(machine: Machine) -> list[dict[str, Any]]:
    return [pod for pod in objects(machine, "pods") if pod["metadata"]["labels"].get("kaito.sh/role") == "serve"]


def restarts(pod: dict[str, Any]) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def started_pids(machine: Machine, pod: dict[str, Any]) -> list[int]:
    files = (machine.home / "pods" / pod["metadata"]["uid"]).glob("containers/serve/*/started.json")
    return [int(json.loads(file.read_text())["pid"]) for file in files]


def ask(address: str, prompt: str) -> str:
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{address}/chat", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["Result"]).strip()


async def test_one_ready_workspace_costs_no_writes(machine: Machine, served: str) -> None:
    kubeconfig = machine.home / "kubeconfig"
    await settle(kubeconfig, 60)
    writes = await count_writes(kubeconfig, STEADY_SECONDS)
    assert writes.changed == frozenset()
    assert writes.total == writes.leases


def test_a_killed_control_plane_leaves_the_server_alone(machine: Machine, served: str, samples: Path) -> None:
    (before,) = serving_pods(machine)
    pids = started_pids(machine, before)
    sets = {item["metadata"]["uid"] for item in objects(machine, "replicasets")}
    os.kill(machine.running["pid"], signal.SIGKILL)
    machine.start()
    asyncio.run(settle(machine.home / "kubeconfig", 60))

    (after,) = serving_pods(machine)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" not in after["metadata"]
    assert restarts(after) == restarts(before)
    assert started_pids(machine, after) == pids
    assert pids
    assert {item["metadata"]["uid"] for item in objects(machine, "replicasets")} == sets
    assert machine.condition(served, "WorkspaceReady")["status"] == "True"
    question = json.loads((samples / "questions.json").read_text())[0]
    assert ask(machine.kaito("url", served).stdout.strip(), question["prompt"]) == question["answer"]

    writes = asyncio.run(count_writes(machine.home / "kubeconfig", STEADY_SECONDS))
    assert writes.changed == frozenset()
    assert writes.total == writes.leases


def test_a_stopped_training_goes_on_where_it_was(machine: Machine, tmp_path: Path) -> None:
    name = "interrupted"
    machine.apply(tmp_path, tuning(name, machine.registry))

    def step() -> int:
        return int(machine.workspace(name).get("status", {}).get("tuning", {}).get("step") or 0)

    machine.until(lambda: step() > 5, patience=150, what="the training is well under way")
    reached = step()
    machine.stop()
    machine.start()
    resumed: list[int] = []

    def has_resumed() -> bool:
        resumed.extend(saved_steps(machine, name))
        return bool(resumed)

    machine.until(has_resumed, patience=120, what="the training says from which checkpoint it goes on")
    assert resumed[0] >= reached
    machine.kaito("wait", name, "--timeout", "280", timeout=300)


def saved_steps(machine: Machine, name: str) -> list[int]:
    """The steps of the checkpoints that the training's logs say it went on from."""
    pod = next(p for p in objects(machine, "pods") if p["metadata"]["name"].startswith(name))
    logs = (machine.home / "pods" / pod["metadata"]["uid"]).glob("containers/tune/*/log")
    return [int(found) for log in logs for found in re.findall(r"resuming.*checkpoint-(\d+)", log.read_text())]
