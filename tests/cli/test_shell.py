"""What a shell is offered to complete; and the command as a process: interrupted, watching, as a plugin, in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kaito.api import crds
from tests.support.cluster import Cluster, kubectl_path
from tests.workspace.builders import INFERENCE, changed

CLI = (sys.executable, "-m", "kaito.cli.main")


def completions(words: list[str], environment: dict[str, str]) -> list[str]:
    asked = {"_KAITO_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(CLI, env={**environment, **asked}, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def environment(cluster: Cluster) -> dict[str, str]:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    cluster.request("POST", definitions, crds.workspace_crd())
    for name in ("phi-3", "phi-4", "llama"):
        made = changed(INFERENCE, {"metadata": {"name": name}})
        assert cluster.request("POST", "/apis/kaito.sh/v1beta1/namespaces/default/workspaces", made).code == 201
    return {**cluster.environment(), "KAITO_HOME": str(cluster.home)}


def test_names_kinds_and_namespaces_come_from_the_cluster(environment: dict[str, str]) -> None:
    assert completions(["kaito", "explain", "phi"], environment) == ["phi-3", "phi-4"]
    assert completions(["kaito", "get", "works"], environment) == ["workspaces"]
    assert completions(["kaito", "get", "wk", "ll"], environment) == ["llama"]
    assert "kube-system" in completions(["kaito", "get", "-n", "kube"], environment)
    assert completions(["kaito", "-n", "kube-system", "explain", "phi"], environment) == []


def test_commands_options_and_the_catalogue_need_no_cluster(tmp_path: Path) -> None:
    alone = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    assert completions(["kaito", "ex"], alone) == ["explain"]
    assert "--all-namespaces" in completions(["kaito", "get", "--all"], alone)
    assert completions(["kaito", "skus", "Standard_NC6"], alone)[0].startswith("Standard_NC6")
    assert "tiny-phi-3" in completions(["kaito", "models", "tiny"], alone)
    assert completions(["kaito", "explain", ""], alone) == []


def test_kubectl_gets_them_in_its_own_form(environment: dict[str, str]) -> None:
    code = "from kaito.cli.completion import kubectl_main; kubectl_main()"
    command = [sys.executable, "-c", code, "explain", "phi"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["phi-3", "phi-4", ":4"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_ones_that_their_shell_takes(shell: str, tmp_path: Path) -> None:
    script = subprocess.run([*CLI, "completion", shell], capture_output=True, text=True, timeout=60)
    assert "_KAITO_COMPLETE=complete_" in script.stdout
    if shell == "bash":
        checked = subprocess.run(["bash", "-n"], input=script.stdout, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


def test_ctrl_c_ends_a_wait_with_130_and_no_traceback(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*CLI, "wait", "phi-3", "--for", "WorkspaceReady"], env=environment, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        assert "phi-3  ResourceReady=-" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 130
        assert "Traceback" not in waiting.stderr.read()


def test_help_costs_no_more_than_a_bare_typer_and_a_little(environment: dict[str, str]) -> None:
    """Processor seconds, least of five each, beside what Python with typer and msgspec takes by itself."""
    bare = [sys.executable, "-c", "import asyncio, msgspec, typer, yaml"]
    ours = min(_cost([*CLI, "--help"], environment) for _ in range(5))
    assert ours < 4 * min(_cost(bare, environment) for _ in range(5)) + 0.1


def _cost(command: list[str], environment: dict[str, str]) -> float:
    before = os.times()
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_a_watch_shows_what_changes(environment: dict[str, str], cluster: Cluster) -> None:
    with subprocess.Popen([*CLI, "get", "-w"], env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert [watching.stdout.readline().split()[0] for _ in range(4)] == ["NAME", "llama", "phi-3", "phi-4"]
        patch = {"Content-Type": "application/merge-patch+json"}
        path = "/apis/kaito.sh/v1beta1/namespaces/default/workspaces/phi-4"
        touching = threading.Event()
        toucher = threading.Thread(target=_touch, args=(cluster, path, patch, touching))
        toucher.start()
        try:
            assert watching.stdout.readline().split()[0] == "phi-4"
        finally:
            touching.set()
            toucher.join()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130


def _touch(cluster: Cluster, path: str, patch: dict[str, str], until: threading.Event) -> None:
    """Changes until one is seen: the watch may begin after the first of them."""
    for count in range(600):
        cluster.request("PATCH", path, f'{{"metadata": {{"labels": {{"n": "{count}"}}}}}}', patch)
        if until.wait(0.1):
            return


@pytest.mark.tools
def test_it_is_a_plugin_of_kubectl(environment: dict[str, str], tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-kaito"
    plugin.write_text(f"#!{sys.executable}\nfrom kaito.cli.main import main\nmain()\n")
    plugin.chmod(0o755)
    on_path = {**environment, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    def kubectl(*words: str) -> subprocess.CompletedProcess[str]:
        command = [kubectl_path(), "kaito", *words]
        return subprocess.run(command, env=on_path, capture_output=True, text=True, timeout=60)

    assert kubectl("get", "-o", "name").stdout.split()[0] == "workspace.kaito.sh/llama"
    assert kubectl("get", "--help").stdout.startswith("Usage: kubectl kaito get ")
    assert "  kubectl kaito get -w\n" in kubectl("get", "--help").stdout + "\n"
    assert kubectl("wait", "nobody").returncode == 1


def test_a_wait_that_ends_in_the_middle_of_its_watch_ends_cleanly(
    environment: dict[str, str], cluster: Cluster
) -> None:
    with subprocess.Popen([*CLI, "wait", "phi-3"], env=environment, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "phi-3  ResourceReady=-" in waiting.stderr.readline()
        ready = {"type": "WorkspaceReady", "status": "True", "reason": "workspaceReady", "message": ""}
        ready |= {"lastTransitionTime": "2026-07-01T12:00:00Z"}
        patch = {"Content-Type": "application/merge-patch+json"}
        path = "/apis/kaito.sh/v1beta1/namespaces/default/workspaces/phi-3/status"
        assert cluster.request("PATCH", path, json.dumps({"status": {"conditions": [ready]}}), patch).code == 200
        assert waiting.wait(60) == 0
        assert "Traceback" not in waiting.stderr.read()
