"""`kaito up` as people use it: start, ask, stop; and what it says when it cannot."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito.kube.client import Client
from kaito.kube.resources import CRDS, SECRETS, untyped
from kaito.local.up import UpConfig, UpError, detach, down, status
from tests.local.up.machines import UpMachine, foreground, is_alive, until

pytestmark = pytest.mark.xdist_group("up")

PODS = untyped("", "v1", "pods", "Pod", True)
CONFIG_MAPS = untyped("", "v1", "configmaps", "ConfigMap", True)
NODES = untyped("", "v1", "nodes", "Node", False)
PROGRAMS = {"test/sleep": "sleep", "test/sh": "sh"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[UpMachine]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "programs.json").write_text(json.dumps(PROGRAMS))
    made = UpMachine(home)
    yield made
    made.stop()
    assert made.processes() == []


def sleeper(name: str, node: str, **spec: object) -> dict[str, object]:
    container = {"name": "main", "image": "test/sleep", "args": ["1000"]}
    body = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 1, **spec}
    return {"metadata": {"name": name}, "spec": body}


async def node_name(client: Client) -> str:
    nodes = await client.list(NODES)
    return str(nodes.items[0][0]["metadata"]["name"])


async def wait_running(client: Client, name: str) -> dict[str, object]:
    import asyncio

    for _ in range(500):
        found = await client.get(PODS, name, "default")
        if (found.get("status") or {}).get("phase") == "Running":
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def test_what_a_new_machine_has(machine: UpMachine) -> None:
    running = machine.start()
    assert status(machine.home) == running
    written = json.loads((machine.home / "up.json").read_text())
    assert written["pid"] == running.pid
    assert written["registry_port"] == running.registry_port
    assert (machine.home / "kubeconfig").stat().st_mode & 0o777 == 0o600
    async with Client.connect(running.kubeconfig) as client:
        secret = await client.get(SECRETS, "local-registry", "default")
        assert secret.type == "kubernetes.io/dockerconfigjson"
        names = {crd.metadata.name for crd, _ in (await client.list(CRDS)).items}
        assert {"workspaces.kaito.sh", "nodeclaims.karpenter.sh", "machines.karpenter.sh"} <= names
    with urllib.request.urlopen(f"http://{running.registry}/data/questions.json") as answer:
        assert len(json.load(answer)) >= 10
    assert machine.stop()
    assert not machine.stop()
    assert status(machine.home) is None


async def test_own_data_is_not_overwritten(machine: UpMachine) -> None:
    (machine.home / "data").mkdir()
    (machine.home / "data" / "questions.json").write_text("mine")
    machine.start()
    assert (machine.home / "data" / "questions.json").read_text() == "mine"


def test_a_second_control_plane_on_the_folder_is_refused(machine: UpMachine) -> None:
    running = machine.start()
    with pytest.raises(UpError, match=rf"runs on {machine.home} already \(pid {running.pid}\).*kaito down"):
        detach(machine.config)
    second = foreground(machine.config)
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"kaito: {machine.home} is in use by another control plane (pid {running.pid})" in output


@pytest.mark.parametrize(("option", "field"), [("--port", "port"), ("--registry-port", "registry_port")])
def test_a_taken_port_is_named(option: str, field: str, machine: UpMachine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = {"port": 0, "registry_port": 0, field: port}
        with pytest.raises(UpError, match=rf"port {port} .*pid {os.getpid()}.*{option}$"):
            detach(UpConfig(home=machine.home, controllers=False, **given))


def test_a_broken_programs_file_is_named(machine: UpMachine) -> None:
    (machine.home / "programs.json").write_text("{")
    with pytest.raises(UpError, match=r"programs.json is not JSON"):
        machine.start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_all_of_it(number: signal.Signals, machine: UpMachine) -> None:
    process = foreground(machine.config)
    until(lambda: (machine.home / "up.json").exists(), "it is ready")
    async with Client.connect(machine.config.kubeconfig) as client:
        await client.create(PODS, sleeper("one", await node_name(client)), "default")
        await wait_running(client, "one")
    until(lambda: len(machine.processes()) >= 3, "shim and container run")
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert machine.processes() == []
    assert "Traceback" not in output


async def test_pods_that_a_stop_ended_are_taken_up_again(machine: UpMachine) -> None:
    running = machine.start()
    async with Client.connect(running.kubeconfig) as client:
        await client.create(PODS, sleeper("back", await node_name(client)), "default")
        await wait_running(client, "back")
    machine.stop()
    running = machine.start()
    async with Client.connect(running.kubeconfig) as client:
        found = await wait_restarted(client, "back")
    assert found["status"]["containerStatuses"][0]["restartCount"] == 1  # type: ignore[index]


async def wait_restarted(client: Client, name: str) -> dict[str, object]:
    import asyncio

    for _ in range(500):
        found = await client.get(PODS, name, "default")
        state = found["status"]["containerStatuses"][0]
        if state["restartCount"] and "running" in state["state"]:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def test_down_ends_what_a_killed_control_plane_left(machine: UpMachine) -> None:
    running = machine.start()
    async with Client.connect(running.kubeconfig) as client:
        await client.create(PODS, sleeper("left", await node_name(client)), "default")
        await wait_running(client, "left")
    until(lambda: len(machine.processes()) >= 3, "shim and container run")
    machine.kill()
    assert len(machine.processes()) == 2, "the shim and its container go on"
    assert machine.stop()
    assert machine.processes() == []


@pytest.mark.soak
async def test_twenty_kills_lose_no_write_and_no_pod(machine: UpMachine) -> None:
    """At any moment of a control plane's life: while it starts, serves, or starts pods."""
    chance = random.Random(20)
    acknowledged: set[str] = set()
    pid = 0
    for round_ in range(20):
        running = machine.start()
        async with Client.connect(running.kubeconfig) as client:
            if round_ == 0:
                await client.create(PODS, sleeper("steady", await node_name(client)), "default")
                await wait_running(client, "steady")
                until(lambda: bool(list(machine.home.glob("pods/*/containers/main/0/started.json"))), "its pid")
                pid = steady_pid(machine)
            deadline = time.monotonic() + chance.uniform(0.0, 0.5)
            while time.monotonic() < deadline:
                name = f"c{len(acknowledged)}"
                await client.create(CONFIG_MAPS, {"metadata": {"name": name}}, "default")
                acknowledged.add(name)
        machine.kill()
    running = machine.start()
    async with Client.connect(running.kubeconfig) as client:
        found = {item["metadata"]["name"] for item, _ in (await client.list(CONFIG_MAPS, "default")).items}
        assert acknowledged <= found
        steady = await wait_running(client, "steady")
    assert steady["status"]["containerStatuses"][0]["restartCount"] == 0  # type: ignore[index]
    assert steady_pid(machine) == pid
    assert is_alive(pid)


def steady_pid(machine: UpMachine) -> int:
    (file,) = machine.home.glob("pods/*/containers/main/0/started.json")
    return int(json.loads(file.read_text())["pid"])


def test_down_on_nothing(tmp_path: Path) -> None:
    assert down(tmp_path / "none") is False
