"""Images that are no programs of this machine: through a container engine, or refused in words that help.

The engine's client is stood in for by a script with its command line, so that every machine tests how it is called, how
it ends and what is cleaned up; with a real podman or docker the same pods run in `test_a_real_engine_runs_an_image`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kaito.kube.client import Client
from kaito.local.agent.engines import Engine, Engines
from kaito.local.backend import LogOptions
from tests.local.agent.bench import PODS, Bench, container, pod, status_of, terminated
from tests.support.cluster import Cluster

CLIENT = """#!/bin/sh
# Takes what podman takes; its containers are processes in a session of their own, found by their names.
folder="$(dirname "$0")"
echo "$*" >> "$folder/calls"
case "$1" in
info) exit 0 ;;
rm) for last; do :; done
  test -e "$folder/$last" && kill -9 -- -"$(cat "$folder/$last")"; rm -f "$folder/$last"; exit ;;
exec) shift; while test "${1#-}" != "$1"; do shift; done; shift; exec "$@" ;;
esac
shift
while test "${1#-}" != "$1"; do
  case "$1" in
  --name) name="$2"; shift ;;
  --entrypoint) entry="$2"; shift ;;
  --network|--pull|--env|--volume|--user|--memory|--cpus|--workdir|--cap-drop|--cap-add) shift ;;
  esac
  shift
done
image="$1"; shift
test "$image" = none.example/missing && { echo "manifest unknown" >&2; exit 125; }
setsid $entry "$@" <&0 &
echo $! > "$folder/$name"
wait $!
code=$?
rm -f "$folder/$name"
exit $code
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    client = tmp_path / "podman"
    client.write_text(CLIENT)
    client.chmod(0o755)
    return client


@asynccontextmanager
async def running(cluster: Cluster, choice: str) -> AsyncIterator[Bench]:
    """The node agent, with the engine of that name or path."""
    async with Client.connect(cluster.kubeconfig) as client:
        bench = Bench(cluster, client)
        await bench.start_agent(engines=Engines(choice))
        try:
            yield bench
        finally:
            await bench.stop()


def calls(engine: Path, verb: str) -> list[str]:
    return [line for line in (engine.parent / "calls").read_text().splitlines() if line.startswith(verb)]


def box(script: str, **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": "example.com/box:1", "command": ["/bin/sh"], "args": ["-c", script], **more}


async def test_an_image_runs_through_the_engine(cluster: Cluster, engine: Path) -> None:
    async with running(cluster, str(engine)) as bench:
        volumes = [{"name": "v", "emptyDir": {}}]
        shape = {
            "volumeMounts": [{"name": "v", "mountPath": "/data", "readOnly": True}],
            "env": [{"name": "COLOUR", "value": "deep blue"}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": True},
            "imagePullPolicy": "Always",
        }
        await bench.create(pod("one", box("echo $COLOUR; exit 4", **shape), volumes=volumes))
        found = await bench.phase("one", "Failed")
        assert terminated(found)["exitCode"] == 4
        assert bench.agent is not None
        log = [chunk async for chunk in bench.agent.backend.logs("default", "one", LogOptions())]
        assert b"".join(log) == b"deep blue\n"
        (line,) = calls(engine, "run")
        assert line.endswith("example.com/box:1 -c echo $COLOUR; exit 4")
        for wanted in ("--network host", "--pull always", "--entrypoint /bin/sh", "--env COLOUR", "--read-only"):
            assert wanted in line
        assert "--memory 67108864" in line
        assert "--cpus 0.5" in line
        assert "--user 1000" in line
        assert ":/data:ro" in line
        assert ":/dev/termination-log" in line
        assert "deep blue" not in line, "values of the environment are on no command line"


async def test_a_container_that_must_die_is_removed_from_the_engine(cluster: Cluster, engine: Path) -> None:
    async with running(cluster, str(engine)) as bench:
        await bench.create(pod("stuck", box("trap '' TERM; while :; do sleep 0.1; done")))
        await bench.phase("stuck", "Running")
        await bench.until(lambda: _holds(len(list(engine.parent.glob("kaito-*"))) == 1), "the container is there")
        await bench.client.delete(PODS, "stuck", "default")
        await bench.gone("stuck")
        assert len(calls(engine, "rm --force --time 0 kaito-")) == 1
        await bench.until(lambda: _holds(not list(engine.parent.glob("kaito-*"))), "the container is gone")


async def test_a_command_enters_the_container(cluster: Cluster, engine: Path) -> None:
    async with running(cluster, str(engine)) as bench:
        await bench.create(pod("host", box("sleep 60")))
        await bench.phase("host", "Running")
        assert bench.agent is not None
        stream = await bench.agent.backend.exec("default", "host", "", ["echo", "inside"], stdin=False, tty=False)
        assert await stream.read_stdout() == b"inside\n"
        assert await stream.wait() == 0
        (line,) = calls(engine, "exec")
        assert line.startswith("exec kaito-")
        assert line.endswith("-main-0 echo inside")


async def test_an_image_that_cannot_be_pulled_says_why(cluster: Cluster, engine: Path) -> None:
    async with running(cluster, str(engine)) as bench:
        await bench.create(pod("none", {"name": "main", "image": "none.example/missing"}))
        ended = terminated(await bench.phase("none", "Failed"))
        assert (ended["exitCode"], ended["reason"]) == (125, "ContainerCannotRun")
        assert "manifest unknown" in ended["message"]


async def test_without_an_engine_it_says_what_to_install(cluster: Cluster, tmp_path: Path) -> None:
    async with running(cluster, str(tmp_path / "no-such-engine")) as bench:
        await bench.create(pod("other", container("x", image="nginx")))
        found = await bench.pod_until("other", lambda p: status_of(p).get("state", {}).get("waiting"))
        waiting = status_of(found)["state"]["waiting"]
        assert waiting["reason"] == "ImageNotRunnable"
        assert "'nginx'" in waiting["message"]
        assert f"install {tmp_path}/no-such-engine to run it" in waiting["message"]


async def test_an_engine_that_does_not_answer_is_named(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)
    engines = Engines(str(client))
    assert await engines.find() is None
    assert engines.why == f"{client} is installed but does not answer (Cannot connect to the Docker daemon)"


def test_the_registry_of_this_machine_is_spoken_to_without_tls() -> None:
    words = Engine("/usr/bin/podman").run("n", {"image": "127.0.0.1:5010/box:1"}, {}, [])
    assert "--tls-verify=false" in words
    assert "--tls-verify=false" not in Engine("/usr/bin/docker").run("n", {"image": "127.0.0.1:5010/box:1"}, {}, [])


@pytest.mark.tools
async def test_a_real_engine_runs_an_image(cluster: Cluster) -> None:
    """With KAITO_TEST_IMAGE, an image that podman or docker has and that has /bin/sh."""
    image, program = os.environ.get("KAITO_TEST_IMAGE"), os.environ.get("KAITO_CONTAINER_ENGINE", "podman")
    if not image or shutil.which(program) is None:
        pytest.skip("KAITO_TEST_IMAGE names no image, or there is no podman")
    async with running(cluster, program) as bench:
        main = {**box("echo $COLOUR > /dev/termination-log; cat /proc/1/comm; exit 3"), "image": image}
        await bench.create(pod("real", {**main, "env": [{"name": "COLOUR", "value": "deep blue"}]}))
        ended = terminated(await bench.phase("real", "Failed", 60.0))
        assert (ended["exitCode"], ended["message"].strip()) == (3, "deep blue")
        await bench.create(pod("stays", {**box("sleep 1000"), "image": image}))
        await bench.phase("stays", "Running", 60.0)
        await bench.client.delete(PODS, "stays", "default")
        await bench.gone("stays")


async def _holds(value: bool) -> bool:
    return value
