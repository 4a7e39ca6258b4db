"""The agent dies by SIGKILL, and the next one takes up every pod where it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaito.kube.client import Client
from kaito.local.agent.sweep import stop_all
from tests.local.agent.bench import PODS, Bench, container, pod, status_of, terminated
from tests.support.cluster import Cluster

ROOT = Path(__file__).parents[3]
VOLUMES = [{"name": "v", "emptyDir": {}}]
SHAPE = {"env": [{"name": "V", "value": "/v"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}


@contextmanager
def agent_process(cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.local.agent.agent_main", str(cluster.kubeconfig), str(cluster.home)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
async def desk(cluster: Cluster) -> AsyncIterator[Bench]:
    """A bench without an agent of its own."""
    async with Client.connect(cluster.kubeconfig) as client:
        yield Bench(cluster, client)
    stop_all(cluster.home / "pods", 0.2)


def started(desk: Bench, uid: str, number: int = 0) -> dict[str, int]:
    path = desk.cluster.home / "pods" / uid / "containers" / "main" / str(number) / "started.json"
    content: dict[str, int] = json.loads(path.read_text())
    return content


def volume(desk: Bench, uid: str) -> Path:
    return desk.cluster.home / "pods" / uid / "volumes" / "v"


async def test_what_runs_goes_on_and_is_adopted(desk: Bench) -> None:
    script = "until test -e $V/go; do sleep 0.02; done; echo went > $KAITO_TERMINATION_LOG; exit 7"
    with agent_process(desk.cluster):
        made = await desk.create(pod("long", container(script, **SHAPE), volumes=VOLUMES))
        uid = made["metadata"]["uid"]
        before = await desk.phase("long", "Running")
        await desk.until(lambda: _is_there(volume(desk, uid).parent.parent / "containers/main/0/started.json"), "pid")
        pid = started(desk, uid)["pid"]
    with agent_process(desk.cluster):
        await desk.pod_until("long", lambda p: p["status"]["phase"] == "Running")
        assert started(desk, uid)["pid"] == pid
        (volume(desk, uid) / "go").touch()
        after = await desk.phase("long", "Failed")
    assert terminated(after)["exitCode"] == 7
    assert terminated(after)["message"] == "went\n"
    assert status_of(after)["restartCount"] == 0
    assert after["status"]["podIP"] == before["status"]["podIP"]


async def test_what_ended_meanwhile_has_its_exit_code(desk: Bench) -> None:
    script = "until test -e $V/go; do sleep 0.02; done; echo gone > $V/gone; exit 5"
    with agent_process(desk.cluster):
        made = await desk.create(pod("short", container(script, **SHAPE), volumes=VOLUMES))
        await desk.phase("short", "Running")
    folder = volume(desk, made["metadata"]["uid"])
    (folder / "go").touch()
    await desk.until(lambda: _is_there(folder / "gone"), "it ended")
    with agent_process(desk.cluster):
        assert terminated(await desk.phase("short", "Failed"))["exitCode"] == 5


async def test_what_was_lost_is_started_again(desk: Bench) -> None:
    """The shim and its container are killed while no agent looks: nobody knows how it ended."""
    with agent_process(desk.cluster):
        made = await desk.create(pod("lost", container("sleep 60", **SHAPE), volumes=VOLUMES, restartPolicy="Always"))
        uid = made["metadata"]["uid"]
        await desk.phase("lost", "Running")
        await desk.until(lambda: _is_there(desk.cluster.home / f"pods/{uid}/containers/main/0/started.json"), "pid")
    shim = started(desk, uid)["shim_pid"]
    subprocess.run(["kill", "-9", str(shim)], check=True)
    with agent_process(desk.cluster):
        found = await desk.pod_until("lost", lambda p: status_of(p).get("restartCount") == 1)
        assert status_of(found)["lastState"]["terminated"]["exitCode"] == 137


async def test_a_pod_deleted_meanwhile_is_ended(desk: Bench) -> None:
    with agent_process(desk.cluster):
        made = await desk.create(pod("orphan", container("sleep 60", **SHAPE), volumes=VOLUMES))
        uid = made["metadata"]["uid"]
        await desk.phase("orphan", "Running")
        await desk.until(lambda: _is_there(desk.cluster.home / f"pods/{uid}/containers/main/0/started.json"), "pid")
        pid = started(desk, uid)["pid"]
    await desk.client.delete(PODS, "orphan", "default", grace_period=0)
    await desk.gone("orphan")
    with agent_process(desk.cluster):
        await desk.until(lambda: _is_absent(desk.cluster.home / "pods" / uid), "the folder is gone")
        assert not Path(f"/proc/{pid}").exists()


async def _is_there(path: Path) -> bool:
    return path.exists()


async def _is_absent(path: Path) -> bool:
    return not path.exists()
