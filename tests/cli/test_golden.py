"""Every command of the CLI against the embedded control plane, word for word."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api import crds
from kaito.cli.main import app
from tests.cli.terminal import Script, normal, run
from tests.support.cluster import Cluster
from tests.support.fake_pods import ProcessBackend
from tests.workspace.builders import INFERENCE, TUNING, changed

WHEN = "2026-07-01T12:00:00Z"
ROOT = Path(__file__).parents[2]
FILES = Path(__file__).parent / "golden" / "files"


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    found = {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": WHEN}
    return {**found, "observedGeneration": 1}


READY = [
    condition("ResourceReady", "True", "ResourcesReady"),
    condition("InferenceReady", "True", "WorkspaceInferenceStatusSuccess"),
    condition("WorkspaceReady", "True", "workspaceReady", "The Workspace is ready."),
]
QUOTA = "The quota of the region is used up. Ask for 6 more cores of the family NCSv3."
WAITING = [
    condition("NodeClaimReady", "False", "SubscriptionQuotaReached", QUOTA),
    condition("ResourceReady", "False", "SubscriptionQuotaReached", QUOTA),
    condition("WorkspaceReady", "False", "SubscriptionQuotaReached", QUOTA),
]
FAILED = [
    condition("TuningSucceeded", "False", "DataUnusable", "No row of the data can be used."),
    condition("WorkspaceReady", "False", "DataUnusable", "No row of the data can be used."),
]
TRAINING = {"step": 40, "totalSteps": 120, "loss": "1.8121", "etaSeconds": 60}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "served-0", "labels": {"kaito.sh/workspace": "served", "kaito.sh/role": "serve"}},
    "spec": {"containers": [{"name": "serve", "image": "kaito/runtime:test"}]},
}
POD_STATUS = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [
        {
            "name": "serve",
            "ready": True,
            "restartCount": 0,
            "image": "i",
            "imageID": "",
            "state": {"running": {"startedAt": WHEN}},
        }
    ],
}
PORT = {"name": "http", "port": 80, "targetPort": 5000, "protocol": "TCP"}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "served", "labels": {"kaito.sh/workspace": "served"}},
    "spec": {"clusterIP": "127.96.0.9", "ports": [PORT]},
}


def put(cluster: Cluster, path: str, body: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> None:
    answer = cluster.request("POST", path, dict(body))
    assert answer.code == 201, answer.body
    if status is not None:
        patch = {"Content-Type": "application/merge-patch+json"}
        name = body["metadata"]["name"]
        answer = cluster.request("PATCH", f"{path}/{name}/status", json.dumps({"status": status}), patch)
        assert answer.code == 200, answer.body


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane on which nothing moves: three Workspaces, a pod with a log, a Service."""
    cluster = Cluster(tmp_path_factory.mktemp("golden") / "home")
    cluster.start()
    cluster.set_backend(ProcessBackend())
    for document in (crds.workspace_crd(), crds.node_claim_crd()):
        put(cluster, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document)
    clean = {"metadata.uid": None, "metadata.resourceVersion": None, "metadata.generation": None}
    spaces = "/apis/kaito.sh/{}/namespaces/{}/workspaces"
    one = spaces.format("v1beta1", "default")
    put(cluster, one, changed(INFERENCE, clean), {"conditions": READY, "state": "Ready", "targetNodeCount": 1})
    waits = changed(INFERENCE, {**clean, "metadata.name": "starved"})
    put(cluster, one, waits, {"conditions": WAITING, "state": "Pending", "targetNodeCount": 1})
    tuned = {"conditions": FAILED, "state": "Failed", "tuning": TRAINING}
    put(cluster, spaces.format("v1alpha1", "default"), changed(TUNING, clean), tuned)
    other = changed(INFERENCE, {**clean, "metadata.name": "elsewhere", "metadata.namespace": "kube-system"})
    put(cluster, spaces.format("v1beta1", "kube-system"), other)
    put(cluster, "/api/v1/namespaces/default/pods", POD, POD_STATUS)
    put(cluster, "/api/v1/namespaces/default/services", SERVICE)
    yield cluster
    cluster.stop()


@pytest.fixture
def environment(world: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A person's shell: their files in the current folder, the cluster in KUBECONFIG."""
    for file in FILES.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    config = world.kubeconfig.read_text()
    (tmp_path / "expired.kubeconfig").write_text(config.replace(world.token, "gone"))
    (tmp_path / "nowhere.kubeconfig").write_text(config.replace(world.url, "https://127.0.0.1:1"))
    (tmp_path / "guest.kubeconfig").write_text(config.replace(world.token, guest_token(world)))
    monkeypatch.chdir(tmp_path)
    return {"KUBECONFIG": str(world.kubeconfig), "HOME": str(tmp_path), "KAITO_HOME": str(tmp_path / ".kaito")}


def guest_token(cluster: Cluster) -> str:
    """The token of a service account that nobody gave any right."""
    account = "/api/v1/namespaces/default/serviceaccounts"
    cluster.request("POST", account, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "guest"}})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = cluster.request("POST", f"{account}/guest/token", request)
    assert answer.code == 201, answer.body
    return str(answer.json()["status"]["token"])


def play(name: str, environment: Mapping[str, str], replaced: Mapping[str, str]) -> None:
    script = Script(name)
    done = []
    for command in script.commands:
        line, _, file = command.partition(" < ")
        stdin = Path(file).read_text() if file else ""
        text, code = run(line, environment, stdin=stdin)
        assert "Traceback" not in text, text
        done.append((command, normal(text, replaced, ages=name in ("objects", "live")), code))
    script.check(done)


@pytest.mark.parametrize("name", ["help", "objects", "mistakes", "catalogue"])
def test_commands_print_what_they_printed(name: str, environment: dict[str, str], world: Cluster) -> None:
    home = os.path.realpath(environment["HOME"])
    replaced = {
        rf"127\.0\.0\.1:{world.port}": "127.0.0.1:6443",
        re.escape(str(world.home)): "HOME",
        re.escape(home): ".",
        r"(resourceVersion.{1,3}: .)\d+": r"\g<1>1",
        r"[0-9a-f]{8}-[0-9a-f-]{27}": "UID",
        r"(creationTimestamp\W+)[\dTZ:-]+": r"\1TIME",
    }
    play(name, environment, replaced)


@pytest.mark.slow
def test_the_commands_of_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ".kaito"
    (tmp_path / "tiny.yaml").write_text((ROOT / "examples/tiny/inference.yaml").read_text())
    (tmp_path / "warned.yaml").write_text((FILES / "warned.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    environment = {"KAITO_HOME": str(home), "HOME": str(tmp_path), "KUBECONFIG": ""}
    replaced = {
        re.escape(str(home)): "~/.kaito",
        r"pid \d+": "pid PID",
        r"(127\.0\.0\.1):\d+": r"\1:PORT",
        r"127\.96\.\d+\.\d+(:\d+)?": "ADDRESS",
        r"tiny-phi-3-[a-z0-9]+-[a-z0-9]+": "POD",
        r"(?m)^tiny-phi-3  (?! |ResourceReady=True  InferenceReady=True  WorkspaceReady=True).*\n": "",  # on the way
    }
    try:
        play("live", environment, replaced)
    finally:
        run("kaito down", environment)


def test_every_command_has_golden_output() -> None:
    texts = {path.stem: path.read_text() for path in (Path(__file__).parent / "golden").glob("*.txt")}
    names = sorted(info.name or info.callback.__name__ for info in app.registered_commands if info.callback)
    helped = [name for name in names if f"$ kaito {name} --help\n" in texts["help"]]
    shown = "".join(texts[name] for name in texts if name != "help")
    elsewhere = {"demo", "crds"}  # tests/e2e/test_demo.py; below
    assert helped == names
    assert [name for name in names if f"$ kaito {name}" not in shown] == sorted(elsewhere)


def test_the_definitions_are_printed_whole() -> None:
    text, code = run("kaito crds --karpenter", {})
    assert code == 0
    expected = [crds.workspace_crd(), crds.node_claim_crd(), crds.machine_crd(), crds.node_pool_crd()]
    assert list(yaml.safe_load_all(text)) == expected
    assert "&id" not in text  # not every reader of manifests knows aliases


def test_a_dump_can_be_applied_again(environment: dict[str, str]) -> None:
    assert run("kaito apply -f good.yaml", environment)[1] == 0
    dump, code = run("kaito get cm,wk -o yaml", environment)
    assert code == 0
    assert "resourceVersion" in dump
    Path("dump.yaml").write_text(dump)
    text, code = run("kaito apply -f dump.yaml", environment)
    assert code == 0, text
    assert run("kaito delete -f good.yaml", environment)[1] == 0
    text, code = run("kaito apply -f dump.yaml", environment)
    assert code == 0, text
    assert "workspace.kaito.sh/made created" in text
    assert run("kaito delete -f good.yaml", environment)[1] == 0


BAD = {
    "list.yaml": "kind: List\nitems: 5\n",
    "empty-list.yaml": "apiVersion: v1\nkind: List\nitems: null\n",
    "odd-kind.yaml": "apiVersion: [1]\nkind: {a: b}\nmetadata: {name: x}\n",
    "loop.yaml": "a: &a [*a]\n",
    "number.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 5}\n",
    "number-space.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: 7}\n",
    "path.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ../../secrets/x}\n",
    "text.yaml": "hello\n",
}


@pytest.mark.parametrize(
    "line",
    [
        *(f"kaito apply -f {name}" for name in BAD),
        *(f"kaito delete -f {name}" for name in BAD if name not in ("empty-list.yaml",)),
        *(f"kaito plan -f {name}" for name in BAD),
        "kaito apply -f binary.yaml",
        "kaito apply -f ''",
        "kaito apply -f folder",
        "kaito get ''",
        "kaito get /",
        "kaito get wk/",
        "kaito get wk ''",
        "kaito get wk ../../x",
        "kaito get wk/../../x",
        "kaito get -n x/y",
        "kaito get -o 'jsonpath={.a[}'",
        "kaito get --kubeconfig folder",
        "kaito get --kubeconfig binary.yaml",
        "kaito wait ''",
        "kaito wait wk/",
        "kaito explain /",
        "kaito logs ''",
        "kaito url wk/",
        "kaito chat '' hello",
        "kaito delete ''",
        "kaito delete wk/",
        "kaito up --home binary.yaml --detach",
        "kaito down --home binary.yaml",
        "kaito doctor binary.yaml",
        "kaito doctor folder",
        "kaito operator --log-level nope",
        "kaito operator --node-class x",
        "kaito provisioner --provider simulated --faults binary.yaml",
        "kaito install --values binary.yaml --dry-run",
        "kaito install --set nothing --dry-run",
    ],
)
def test_bad_input_is_a_sentence(line: str, environment: dict[str, str]) -> None:
    """Whatever is typed: an exit code, a line or two on what is wrong, and no exception that gets out."""
    for name, text in BAD.items():
        Path(name).write_text(text)
    Path("binary.yaml").write_bytes(bytes(range(256)))
    Path("folder").mkdir()
    text, code = run(line, environment)
    assert code in (1, 2)
    assert text.strip()
