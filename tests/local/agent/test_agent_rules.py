"""The agent's pure rules, as tables: paths, programs, expansion, restarts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaito.local.agent.config import AgentConfig
from kaito.local.agent.environment import expand
from kaito.local.agent.errors import ContainerRefused
from kaito.local.agent.lifecycle import Plan, View, next_backoff, plan_pod
from kaito.local.agent.mounts import Mounts, container_mounts
from kaito.local.agent.programs import repository, resolve_argv
from kaito.local.agent.run import Exit
from kaito.local.agent.status import qos_class

MOUNTS = Mounts.of(
    [
        ("/mnt/data", Path("/real/data")),
        ("/mnt/data/inner/", Path("/real/inner")),
        ("/dev/termination-log", Path("/real/last")),
        ("/tmp", Path("/real/tmp")),
    ]
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/mnt/data", "/real/data"),
        ("/mnt/data/", "/real/data/"),
        ("/mnt/data/train.arrow", "/real/data/train.arrow"),
        ("/mnt/data/inner", "/real/inner"),
        ("/mnt/data/inner/x", "/real/inner/x"),
        ("/mnt/database", "/mnt/database"),
        ("see /mnt/data", "see /mnt/data"),
        ("mnt/data", "mnt/data"),
        ("/dev/termination-log", "/real/last"),
        ("/tmp", "/real/tmp"),
        ("", ""),
        ("https://host/mnt/data", "https://host/mnt/data"),
    ],
)
def test_a_value_that_is_a_mounted_path_is_rewritten(value: str, expected: str) -> None:
    assert MOUNTS.rewrite(value) == expected


@pytest.mark.parametrize("path", ["../other", "a/../../b", "/etc"])
def test_a_subpath_stays_in_its_volume(path: str, tmp_path: Path) -> None:
    container = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": path}]}
    with pytest.raises(ContainerRefused, match="leaves its volume"):
        container_mounts(container, {"v": tmp_path}, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A", "$A"),
        ("$", "$"),
        ("$(A", "$(A"),
        ("$()", "$()"),
    ],
)
def test_references_are_expanded(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("kaito/runtime", "kaito/runtime"),
        ("kaito/runtime:1.2", "kaito/runtime"),
        ("docker.io/kaito/runtime:1.2", "kaito/runtime"),
        ("docker.io/library/nginx", "nginx"),
        ("127.0.0.1:5010/kaito/runtime:dev", "127.0.0.1:5010/kaito/runtime"),
        ("ghcr.io/a/kaito/runtime@sha256:00", "ghcr.io/a/kaito/runtime"),
    ],
)
def test_an_images_repository(image: str, expected: str) -> None:
    assert repository(image) == expected


def agent_config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(home=tmp_path, python="/py", host_programs={"curlimages/curl": "sh"})


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (
            {"image": "a/kaito/runtime:1", "command": ["kaito-runtime", "tune"]},
            ["-P", "-m", "kaito.runtime.main", "tune"],
        ),
        ({"image": "kaito/runtime", "args": ["serve"]}, ["-P", "-m", "kaito.runtime.main", "serve"]),
        ({"image": "kaito/runtime", "command": ["python", "-V"]}, ["-V"]),
    ],
)
def test_the_runtime_image_is_this_python(container: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    assert resolve_argv(container, agent_config(tmp_path)) == ["/py", *expected]


def test_a_host_program_stands_for_its_image(tmp_path: Path) -> None:
    config = agent_config(tmp_path)
    argv = resolve_argv({"image": "docker.io/curlimages/curl:8", "args": ["-c", "true"]}, config)
    assert Path(argv[0]).name == "sh"
    assert argv[1:] == ["-c", "true"]
    assert resolve_argv({"image": "curlimages/curl", "args": ["sh", "-c", "true"]}, config) == argv
    assert resolve_argv({"image": "curlimages/curl", "command": ["sh", "-c", "x"]}, config)[1:] == ["-c", "x"]
    with pytest.raises(ContainerRefused, match="which has no 'no-such-program'"):
        resolve_argv({"image": "curlimages/curl", "command": ["no-such-program"]}, config)


NOW = datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC)
GOOD = Exit(0, reason="Completed", finished_at="2026-01-01T12:00:05.123456789Z")
BAD = Exit(1, finished_at="2026-01-01T12:00:05.123456789Z")


def never(name: str) -> View:
    return View(name)


def running(name: str, **more: Any) -> View:
    return View(name, running=True, started=True, **more)


def ended(name: str, exit_: Exit, **more: Any) -> View:
    return View(name, exit=exit_, **more)


@pytest.mark.parametrize(
    ("inits", "mains", "policy", "expected"),
    [
        pytest.param([], [never("m")], "Always", ("Pending", ("m",)), id="a new pod"),
        pytest.param([never("i"), never("j")], [never("m")], "Always", ("Pending", ("i",)), id="first init"),
        pytest.param([running("i"), never("j")], [never("m")], "Always", ("Pending", ()), id="init runs"),
        pytest.param([ended("i", GOOD), never("j")], [never("m")], "Always", ("Pending", ("j",)), id="second init"),
        pytest.param([ended("i", GOOD)], [never("m")], "Never", ("Pending", ("m",)), id="inits done"),
        pytest.param([ended("i", BAD)], [never("m")], "OnFailure", ("Pending", ("i",)), id="init again"),
        pytest.param([ended("i", BAD)], [never("m")], "Never", ("Failed", ()), id="init failed"),
        pytest.param(
            [ended("i", GOOD, stopped=True)], [never("m")], "Always", ("Pending", ("i",)), id="init cut short"
        ),
        pytest.param([], [running("m"), ended("n", GOOD)], "OnFailure", ("Running", ()), id="one done"),
        pytest.param([], [ended("m", GOOD), ended("n", GOOD)], "OnFailure", ("Succeeded", ()), id="all done"),
        pytest.param([], [ended("m", GOOD)], "Always", ("Running", ("m",)), id="always again"),
        pytest.param([], [ended("m", BAD)], "Never", ("Failed", ()), id="failed"),
        pytest.param([], [ended("m", BAD), running("n")], "Never", ("Running", ()), id="failed, one runs"),
        pytest.param([], [ended("m", GOOD, stopped=True)], "Never", ("Failed", ()), id="stopped, never again"),
        pytest.param([], [ended("m", GOOD, stopped=True)], "OnFailure", ("Running", ("m",)), id="stopped, taken up"),
        pytest.param([running("s", sidecar=True)], [never("m")], "Never", ("Pending", ("m",)), id="sidecar is up"),
        pytest.param([ended("s", BAD, sidecar=True)], [running("m")], "Never", ("Pending", ("s",)), id="sidecar fell"),
    ],
)
def test_what_is_started_next(
    inits: list[View], mains: list[View], policy: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    plan = plan_pod(inits, mains, policy, NOW)
    assert (plan.phase, plan.start) == expected


def test_a_back_off_is_waited_for() -> None:
    plan = plan_pod([], [ended("m", BAD, backoff=20.0)], "Always", NOW)
    assert plan == Plan("Running", (), ("m",), pytest.approx(15.12, abs=0.01), True)


@pytest.mark.parametrize(
    ("before", "lasted", "expected"),
    [(0, 1, 10), (10, 1, 20), (20, 1, 40), (200, 1, 300), (300, 1, 300), (300, 601, 10)],
)
def test_back_off_doubles_and_forgets(before: float, lasted: float, expected: float) -> None:
    assert next_backoff(before, lasted, 10, 300) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"nvidia.com/gpu": "1"}}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
    ],
)
def test_quality_of_service(resources: list[dict[str, Any]], expected: str) -> None:
    assert qos_class({"containers": [{"resources": given} for given in resources]}) == expected
