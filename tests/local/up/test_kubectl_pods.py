"""The conformance table's other half: what kubectl does with pods that run, on a whole `kaito up`.

Logs, exec, attach, cp, port-forward, run, rollouts and what describes them, with every kubectl that is given (see
`tests/local/apiserver/test_kubectl.py`). The rows share one control plane and build on each other.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.local.apiserver.test_kubectl import NOISE, kubectls, matches
from tests.local.up.machines import UpMachine
from tests.support.cluster import kubectl_path

pytestmark = [pytest.mark.tools, pytest.mark.xdist_group("up")]

PATIENCE = 120.0
PROGRAMS = {"test/sh": "sh", "test/python": "python3"}
TALK = "echo first; read line; echo got $line; exit 3"
SERVE = "trap 'exit 0' TERM; echo hello; while :; do sleep 0.1; done"


def deployment(image: str = "test/sh") -> dict[str, Any]:
    container = {"name": "c", "image": image, "args": ["-c", SERVE]}
    labels = {"app": "api"}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"}, "spec": spec}


TALKER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "talk"},
    "spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "c", "image": "test/sh", "args": ["-c", TALK], "stdin": True}],
    },
}


class Row(NamedTuple):
    words: list[str]
    stdout: str
    """A regular expression, as in the other half of the table."""
    code: int = 0
    stdin: Any = None
    since: int = 20
    """The first minor version of kubectl that knows the command."""
    settles: bool = False
    """Asked again until it is so: kubectl may take a pod that is still on its way out."""


def row(command: str, stdout: str, code: int = 0, **more: Any) -> Row:
    """A command of plain words; a `|` begins the last word, which may hold spaces."""
    plain, bar, script = command.partition(" | ")
    return Row([*plain.split(), *([script] if bar else [])], stdout, code, **more)


ROWS = [
    row("get nodes", r"NAME STATUS ROLES AGE VERSION\n\S+ Ready <none> \S+ v1\S+"),
    row("auth whoami -o jsonpath={.status.userInfo.username}", "kaito-admin", since=28),
    row("auth can-i create pods", "yes"),
    # a rollout, from its creation to its undoing
    row("apply -f -", "deployment.apps/api created", stdin=deployment()),
    row("rollout status deploy/api --timeout 60s", r'(.*\n)*deployment "api" successfully rolled out'),
    row("wait --for condition=Available deploy/api --timeout 60s", "deployment.apps/api condition met"),
    row("get deploy api", r"NAME READY UP-TO-DATE AVAILABLE AGE\napi 2/2 2 2 \S+"),
    row("get pods -l app=api", r"NAME READY STATUS RESTARTS AGE\n(api-\S+ 1/1 Running 0 \S+\n?){2}"),
    row("describe deploy api", r"Name: api\n(.*\n)*.*Scaled up replica set api-\S+ (from 0 )?to 2.*"),
    row("logs deploy/api", "hello"),
    row("scale deploy/api --replicas 1", "deployment.apps/api scaled"),
    row("set env deploy/api A=b", "deployment.apps/api env updated"),
    row("rollout status deploy/api --timeout 60s", r'(.*\n)*deployment "api" successfully rolled out'),
    row("exec deploy/api -- sh -c | echo $A", "b", settles=True),
    row("rollout history deploy/api", r"deployment.apps/api\s*\nREVISION CHANGE-CAUSE\n1 <none>\n2 <none>"),
    row("rollout undo deploy/api", "deployment.apps/api rolled back"),
    row("rollout status deploy/api --timeout 60s", r'(.*\n)*deployment "api" successfully rolled out'),
    row("events --for deployment/api", r"LAST SEEN TYPE REASON OBJECT MESSAGE\n(.*\n)*.*ScalingReplicaSet.*", since=27),
    row("get events", r"LAST SEEN TYPE REASON OBJECT MESSAGE\n(.*\n)*.*Successfully assigned(.*\n?)*"),
    row("delete deploy api", 'deployment.apps "api" deleted.*'),
    # pods
    row("apply -f -", "pod/talk created", stdin=TALKER),
    row("wait --for condition=Ready pod/talk --timeout 60s", "pod/talk condition met"),
    row("attach -i talk", r"(first\n)?got me", stdin="me\n"),  # the exit code is the pod's to tell
    row("get pod talk", r"NAME READY STATUS RESTARTS AGE\ntalk 0/1 Error 0 \S+"),
    row("logs -f talk", r"first\ngot me"),
    row("describe pod talk", r"Name: talk\n(.*\n)*.*Exit Code: 3\n(.*\n)*.*Successfully assigned default/talk to.*"),
    row("run web --image test/python --port 8000 -- -m http.server 8000", "pod/web created"),
    row("wait --for condition=Ready pod/web --timeout 60s", "pod/web condition met"),
    row("logs web --tail 1 --timestamps", r"(\d{4}-\S+ .*)?"),
    row("exec web -- sh -c | echo out; exit 4", "out", 4),
    row("exec -i web -- cat", "through", stdin="through"),
    row("expose pod web --port 80 --target-port 8000", "service/web exposed"),
    row("get endpoints web -o jsonpath={.subsets[0].ports[0].port}", "8000"),
    row(
        "run once -i --rm --image test/sh --restart Never -- -c | read x; echo got $x",
        r'got it\npod "once" deleted.*',
        stdin="it\n",
    ),
    row("run other --image none.example/nothing:1 --restart Never", "pod/other created"),
    row("delete pod talk web other --wait=true", r'pod "talk" deleted.*\npod "web" deleted.*\npod "other" deleted.*'),
    row("delete svc web", 'service "web" deleted.*'),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpMachine]:
    home = tmp_path_factory.mktemp("table") / "home"
    home.mkdir(mode=0o700)
    (home / "programs.json").write_text(json.dumps(PROGRAMS))
    made = UpMachine(home)
    made.start()
    yield made
    made.stop()


@pytest.fixture(params=kubectls())
def kubectl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param:
        monkeypatch.setenv("KAITO_KUBECTL", request.param)
    return kubectl_path()


def environment(machine: UpMachine) -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(machine.home / "kubeconfig"), "HOME": str(machine.home)}


def minor_version(kubectl: str) -> int:
    told = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True)
    return int(re.sub(r"\D", "", json.loads(told.stdout)["clientVersion"]["minor"]))


def said(machine: UpMachine, kubectl: str, each: Row, stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [kubectl, *each.words],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(machine),
        timeout=PATIENCE,
        check=False,
    )


def test_rows(machine: UpMachine, kubectl: str) -> None:
    version = minor_version(kubectl)
    for each in ROWS:
        if version < each.since:
            continue
        stdin = each.stdin if isinstance(each.stdin, str) else json.dumps(each.stdin) if each.stdin else ""
        done = said(machine, kubectl, each, stdin)
        deadline = time.monotonic() + PATIENCE
        while each.settles and not matches(each.stdout, NOISE.sub("", done.stdout)) and time.monotonic() < deadline:
            done = said(machine, kubectl, each, stdin)
        told = f"kubectl {' '.join(each.words)}\n--- exit {done.returncode}\n{done.stdout}\n--- stderr\n{done.stderr}"
        assert done.returncode == each.code, told
        assert matches(each.stdout, NOISE.sub("", done.stdout)), told


def test_cp_there_and_back(machine: UpMachine, kubectl: str, tmp_path: Path) -> None:
    run = [kubectl, "run", "files", "--image", "test/sh", "--restart", "Never", "--", "-c", "sleep 1000"]
    call(machine, *run)
    call(machine, kubectl, "wait", "--for", "condition=Ready", "pod/files", "--timeout", "60s")
    (tmp_path / "from").write_text("some words\n" * 1000)
    call(machine, kubectl, "cp", str(tmp_path / "from"), f"files:{tmp_path}/inside")
    call(machine, kubectl, "cp", f"files:{tmp_path}/inside", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == (tmp_path / "from").read_text()
    call(machine, kubectl, "delete", "pod", "files", "--grace-period", "1")


def test_port_forward(machine: UpMachine, kubectl: str) -> None:
    # Newer kubectls give up at the first connection that the pod refuses, so it is ready only once it listens.
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1, "failureThreshold": 1}
    serve = {"name": "web", "image": "test/python", "args": ["-m", "http.server", "8000"], "readinessProbe": probe}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [serve]}}
    call(machine, kubectl, "apply", "-f", "-", stdin=json.dumps(pod))
    call(machine, kubectl, "wait", "--for", "condition=Ready", "pod/web", "--timeout", "60s")
    forward = [kubectl, "port-forward", "pod/web", ":8000"]
    with subprocess.Popen(forward, stdout=subprocess.PIPE, text=True, env=environment(machine)) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, line
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=PATIENCE) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
    call(machine, kubectl, "delete", "pod", "web", "--grace-period", "1")


def test_run_on_a_terminal(machine: UpMachine, kubectl: str) -> None:
    """`kubectl run -it --rm`: what is typed is echoed, the answer comes, and the pod is gone afterwards."""
    words = ["run", "-it", "--rm", "--restart", "Never", "term", "--image", "test/sh", "--", "-c"]
    script = "stty -echo; read x; test -t 0 && echo on a terminal, got $x"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [kubectl, *words, script], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(machine)
    ) as process:
        os.close(theirs)
        typed, seen, deadline = False, b"", time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:
                    break
            elif not typed and pod_phase(machine, kubectl, "term") == "Running":
                os.write(ours, b"words\n")
                typed = True
        process.wait(PATIENCE)
    os.close(ours)
    assert b"on a terminal, got words" in seen, seen
    assert pod_phase(machine, kubectl, "term") == ""


def pod_phase(machine: UpMachine, kubectl: str, name: str) -> str:
    command = [kubectl, "get", "pod", name, "--ignore-not-found", "-o", "jsonpath={.status.phase}"]
    return subprocess.run(command, capture_output=True, text=True, env=environment(machine), check=True).stdout


def call(machine: UpMachine, *words: str, stdin: str = "") -> str:
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, env=environment(machine), timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
