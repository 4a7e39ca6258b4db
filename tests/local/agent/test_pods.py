"""Pods on a machine: their order, their restarts, their last words and their end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from kaito.kube.resources import EVENTS
from kaito.local.agent.cgroups import find_memory_groups
from tests.local.agent.bench import NODES, PODS, Bench, conditions, container, pod, status_of, terminated

EMPTY = [{"name": "shared", "emptyDir": {}}]
MOUNT = [{"name": "shared", "mountPath": "/mnt/shared"}]
FILE = [{"name": "FILE", "value": "/mnt/shared/trace"}]


async def test_a_pod_runs_and_succeeds(bench: Bench) -> None:
    await bench.create(pod("one", container("echo hello; echo done > $KAITO_TERMINATION_LOG")))
    found = await bench.phase("one", "Succeeded")
    assert terminated(found)["exitCode"] == 0
    assert terminated(found)["reason"] == "Completed"
    assert terminated(found)["message"] == "done\n"
    assert found["status"]["podIP"].startswith("127.97.")
    assert found["status"]["qosClass"] == "BestEffort"
    assert conditions(found) == {
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }


async def test_init_containers_run_in_order_before_the_main_one(bench: Bench) -> None:
    steps = [
        container(f"sleep 0.1; echo {name} >> $FILE", name, env=FILE, volumeMounts=MOUNT)
        for name in ("first", "second", "third")
    ]
    main = container("cat $FILE > $KAITO_TERMINATION_LOG", env=FILE, volumeMounts=MOUNT)
    await bench.create(pod("order", main, initContainers=steps, volumes=EMPTY))
    found = await bench.phase("order", "Succeeded")
    assert terminated(found)["message"] == "first\nsecond\nthird\n"
    assert status_of(found, "second")["ready"] is True


async def test_a_failing_init_container_restarts_in_place_and_keeps_the_volume(bench: Bench) -> None:
    script = "echo try >> $FILE; echo try $(wc -l < $FILE) > $KAITO_TERMINATION_LOG; test $(wc -l < $FILE) -ge 3"
    steps = [container(script, "flaky", env=FILE, volumeMounts=MOUNT)]
    spec = pod("again", container("true"), initContainers=steps, volumes=EMPTY, restartPolicy="OnFailure")
    await bench.create(spec)
    found = await bench.phase("again", "Succeeded")
    flaky = status_of(found, "flaky")
    assert flaky["restartCount"] == 2
    assert flaky["state"]["terminated"]["message"] == "try 3\n"
    assert flaky["lastState"]["terminated"]["message"] == "try 2\n"


async def test_a_failing_init_container_fails_a_pod_that_never_restarts(bench: Bench) -> None:
    await bench.create(pod("no", container("true"), initContainers=[container("exit 4", "bad")]))
    found = await bench.phase("no", "Failed")
    assert terminated(found, "bad")["exitCode"] == 4
    assert "terminated" not in status_of(found)["state"]


async def test_crashes_are_backed_off(bench: Bench) -> None:
    await bench.create(pod("crash", container("exit 3"), restartPolicy="Always"))
    found = await bench.pod_until("crash", lambda p: "waiting" in status_of(p).get("state", {}) and _restarts(p) >= 2)
    waiting = status_of(found)["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert "restarting failed container=main" in waiting["message"]
    assert status_of(found)["lastState"]["terminated"]["exitCode"] == 3


def _restarts(found: dict[str, object]) -> int:
    return int(status_of(found).get("restartCount", 0))


async def test_last_words_fall_back_to_the_log(bench: Bench) -> None:
    main = container("echo why it failed >&2; exit 2", terminationMessagePolicy="FallbackToLogsOnError")
    await bench.create(pod("words", main))
    found = await bench.phase("words", "Failed")
    assert terminated(found)["message"] == "why it failed\n"
    assert terminated(found)["exitCode"] == 2
    assert terminated(found)["reason"] == "Error"


async def test_a_program_that_is_not_there(bench: Bench) -> None:
    await bench.create(pod("absent", {"name": "main", "image": "plain", "command": ["/no/such/program"]}))
    found = await bench.phase("absent", "Failed")
    assert terminated(found)["reason"] == "StartError"
    assert terminated(found)["exitCode"] == 128
    assert "/no/such/program" in terminated(found)["message"]


async def test_deletion_sends_sigterm_and_waits_for_the_grace_period(bench: Bench) -> None:
    script = "trap 'echo bye > $KAITO_TERMINATION_LOG; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    await bench.create(pod("polite", container(script), terminationGracePeriodSeconds=10))
    await bench.phase("polite", "Running")
    began = time.monotonic()
    await bench.client.delete(PODS, "polite", "default")
    await bench.gone("polite")
    assert time.monotonic() - began < 5


async def test_what_ignores_sigterm_is_killed_with_its_children(bench: Bench) -> None:
    script = "trap '' TERM; sleep 1000 & echo $! > $FILE; while :; do sleep 0.05; done"
    spec = container(script, env=FILE, volumeMounts=MOUNT)
    await bench.create(pod("stubborn", spec, volumes=EMPTY, terminationGracePeriodSeconds=1))
    found = await bench.phase("stubborn", "Running")
    trace = bench.cluster.home / "pods" / found["metadata"]["uid"] / "volumes" / "shared" / "trace"
    await bench.until(lambda: _exists(trace), "the child has begun")
    child = int(trace.read_text())
    await bench.client.delete(PODS, "stubborn", "default")
    await bench.gone("stubborn")
    assert not _is_alive(child)
    await bench.until(lambda: _is_absent(trace), "its folder is gone")


async def _exists(path: Path) -> bool:
    return bool(path.exists() and path.read_text().strip())


async def _is_absent(path: Path) -> bool:
    return not path.exists()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_two_pods_listen_on_the_same_port_at_their_own_addresses(bench: Bench) -> None:
    script = (
        "import http.server, os\n"
        "http.server.HTTPServer((os.environ['KAITO_HOST'], 5000), http.server.BaseHTTPRequestHandler).serve_forever()"
    )
    probe = {"tcpSocket": {"port": 5000}, "periodSeconds": 1}
    for name in ("a", "b"):
        await bench.create(pod(name, container(script, image="python", readinessProbe=probe)))
    ready = [await bench.pod_until(name, lambda p: conditions(p).get("Ready") == "True") for name in ("a", "b")]
    assert len({found["status"]["podIP"] for found in ready}) == 2


async def test_another_image_waits_and_says_why(bench: Bench) -> None:
    await bench.create(pod("other", container("true", image="docker.io/library/nginx:1.27")))
    found = await bench.pod_until("other", lambda p: status_of(p).get("state", {}).get("waiting"))
    waiting = status_of(found)["state"]["waiting"]
    assert waiting["reason"] == "ImageNotRunnable"
    assert "nginx:1.27" in waiting["message"]
    events = [event for event, _ in (await bench.client.list(EVENTS, "default")).items]
    assert [(e["type"], e["reason"], e["involvedObject"]["name"]) for e in events] == [("Warning", "Failed", "other")]


async def test_a_memory_limit_is_held_and_named(bench: Bench) -> None:
    if find_memory_groups() is None:
        pytest.skip("this machine lets us make no memory control groups")
    script = "x = bytearray(200 << 20); print(len(x))"
    limits = {"limits": {"memory": "64Mi"}}
    await bench.create(pod("big", container(script, image="python", resources=limits)))
    found = await bench.phase("big", "Failed")
    assert terminated(found)["reason"] == "OOMKilled"
    assert terminated(found)["exitCode"] == 137
    await bench.client.delete(PODS, "big", "default")
    await bench.gone("big")


async def test_a_deadline_ends_the_pod(bench: Bench) -> None:
    await bench.create(pod("late", container("sleep 60"), activeDeadlineSeconds=1))
    found = await bench.phase("late", "Failed")
    assert found["status"]["reason"] == "DeadlineExceeded"


async def test_nothing_is_written_while_nothing_changes(bench: Bench) -> None:
    await bench.create(pod("quiet", container("sleep 60")))
    await bench.pod_until("quiet", lambda p: conditions(p).get("Ready") == "True")
    assert bench.agent is not None
    await asyncio.sleep(0.2)
    before = bench.client.calls["patch"]
    await bench.client.patch(PODS, "quiet", {"metadata": {"labels": {"touched": "yes"}}}, "default")
    await asyncio.sleep(0.5)
    assert bench.client.calls["patch"] == before + 1


async def test_a_node_that_goes_takes_its_pods_along(bench: Bench) -> None:
    node = {
        "metadata": {"name": "virtual", "annotations": {"kaito.sh/capacity": '{"cpu": "2", "nvidia.com/gpu": "1"}'}},
        "spec": {"providerID": "local://host/virtual"},
    }
    await bench.client.create(NODES, node)
    await bench.create(pod("guest", container("sleep 60"), nodeName="virtual"))
    await bench.phase("guest", "Running")
    shown = await bench.client.get(NODES, "virtual")
    assert shown["status"]["capacity"] == {"cpu": "2", "nvidia.com/gpu": "1"}
    await bench.client.delete(NODES, "virtual")
    await bench.gone("guest")
