"""The conformance table: what people type, and what kubectl prints, against the embedded server.

Every row runs real kubectl: the one of KAITO_KUBECTL (or on PATH), and those of KAITO_KUBECTLS (paths and colons).
The rows of a scenario share a cluster and build on each other.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.local.apiserver.requests.asks import WIDGET_CRD, deployment, widget
from tests.support.cluster import Cluster

pytestmark = pytest.mark.tools


class Row(NamedTuple):
    command: str
    stdout: str
    """A regular expression that the whole output matches, spaces between words being any number of them."""
    code: int = 0
    stdin: Any = None
    stderr: str = ""


WEB = deployment()
SCENARIOS: dict[str, list[Row]] = {
    "namespaces": [
        Row("create namespace team", "namespace/team created"),
        Row("get ns team -o jsonpath={.status.phase}", "Active"),
        Row("create namespace team", "", 1, stderr='.*namespaces "team" already exists'),
        Row("get namespaces -o name", r"namespace/default\nnamespace/kube-node-lease\n(.*\n)+namespace/team"),
    ],
    "typed-creates": [
        Row("create configmap one --from-literal a=b", "configmap/one created"),
        Row("create secret generic two --from-literal p=q", "secret/two created"),
        Row("create serviceaccount bot", "serviceaccount/bot created"),
        Row("create deployment web --image nginx", "deployment.apps/web created"),
        Row("create job once --image busybox", "job.batch/once created"),
        Row("create role reader --verb get --resource pods", "role.rbac.authorization.k8s.io/reader created"),
        Row("create rolebinding b --role reader --serviceaccount default:bot", "rolebinding.*/b created"),
        Row("get cm one -o jsonpath={.data.a}", "b"),
        Row("get secret two", r"NAME TYPE DATA AGE\ntwo Opaque 1 \S+"),
        Row("get deploy web", r"NAME READY UP-TO-DATE AVAILABLE AGE\nweb 0/1 0 0 \S+"),
        Row("auth can-i get pods", "yes"),
        Row("auth can-i get pods --as system:serviceaccount:default:bot", "yes"),
        Row("auth can-i delete pods --as system:serviceaccount:default:bot", "no", 1),
        Row("get secrets --as system:serviceaccount:default:bot", "", 1, stderr=".*forbidden: User.*cannot list.*"),
        Row("delete job once", 'job.batch "once" deleted.*'),
    ],
    "apply": [
        Row("apply -f -", "deployment.apps/web created", stdin=WEB),
        Row("apply -f -", "deployment.apps/web unchanged", stdin=WEB),
        Row("apply -f -", "deployment.apps/web configured", stdin=deployment(image="nginx:2")),
        Row("apply --dry-run=server -f -", r"deployment.apps/web configured \(server dry run\)", stdin=WEB),
        Row("diff -f -", r"(.*\n)*\+ *- image: nginx:1.25\n(.*\n)*.*", 1, stdin=WEB),
        Row("apply --server-side --force-conflicts -f -", "deployment.apps/web serverside-applied", stdin=WEB),
        Row("set image deploy/web c0=nginx:3", "deployment.apps/web image updated"),
        Row("apply --server-side -f -", "", 1, stdin=WEB, stderr=r'.*conflict with "kubectl-set".*'),
        Row("replace -f -", "deployment.apps/web replaced", stdin=WEB),
        Row(
            "apply -f -", "", 1, stdin=deployment(typo=1), stderr='.*(unknown field "spec.typo"|unknown field "typo").*'
        ),
        Row("delete -f -", 'deployment.apps "web" deleted.*', stdin=WEB),
        Row("get deploy", "", stderr="No resources found in default namespace."),
    ],
    "edit-in-place": [
        Row("apply -f -", "deployment.apps/web created", stdin=WEB),
        Row("label deploy web x=y", "deployment.apps/web labeled"),
        Row("annotate deploy web x=y", "deployment.apps/web annotated"),
        Row("scale deploy web --replicas 3", "deployment.apps/web scaled"),
        Row("get deploy web -o jsonpath={.spec.replicas}{.metadata.labels.x}{.metadata.annotations.x}", "3yy"),
        Row("get deploy -l x=y -o name", "deployment.apps/web"),
        Row('patch deploy web -p {"spec":{"replicas":2}}', "deployment.apps/web patched"),
        Row(
            'patch deploy web --type json -p [{"op":"remove","path":"/metadata/labels/x"}]',
            "deployment.apps/web patched",
        ),
        Row('patch deploy web --type merge -p {"spec":{"paused":true}}', "deployment.apps/web patched"),
        Row("rollout resume deploy/web", "deployment.apps/web resumed"),
        Row("edit deploy web", "deployment.apps/web edited"),
        Row("get deploy web -o jsonpath={.spec.replicas}", "7"),
        Row("expose deploy web --port 80", "service/web exposed"),
        Row(
            "get svc web",
            r"NAME TYPE CLUSTER-IP EXTERNAL-IP PORT\(S\) AGE\nweb ClusterIP 127\.96\.\S+ <none> 80/TCP \S+",
        ),
        Row("describe deploy web", r"Name: +web\n(.*\n)*Events: +<none>"),
        Row("delete deploy,svc web", r'deployment.apps "web" deleted.*\nservice "web" deleted.*'),
    ],
    "pods": [
        Row("run one --image nginx --restart Never", "pod/one created"),
        Row("get pods", r"NAME READY STATUS RESTARTS AGE\none 0/1 Pending 0 \S+"),
        Row("get pods -o wide", r"NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES\none .*"),
        Row("get pods --field-selector status.phase=Pending -o name", "pod/one"),
        Row("get pods --field-selector status.phase=Running", "", stderr="No resources found in default namespace."),
        Row("describe pod one", r"Name: +one\n(.*\n)*Events: +<none>"),
        Row("get all -o name", r"pod/one\nservice/kubernetes"),
        Row("delete pod one", 'pod "one" deleted.*'),
        Row("get pod one", "", 1, stderr='.*pods "one" not found'),
    ],
    "custom-resources": [
        Row(
            "apply -f -", "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created", stdin=WIDGET_CRD
        ),
        Row("wait --for condition=established crd/widgets.example.com --timeout 10s", ".* condition met"),
        Row("apply -f -", "widget.example.com/one created", stdin=widget(size=5)),
        Row("get widgets", r"NAME SIZE\none 5"),
        Row("get wd one -o jsonpath={.spec.size}", "5"),
        Row("apply -f -", "widget.example.com/one configured", stdin=widget(size=6)),
        Row(
            "apply --server-side --force-conflicts -f -",
            "widget.example.com/one serverside-applied",
            stdin=widget(size=6),
        ),
        Row("apply -f -", "", 1, stdin=widget(size=60), stderr=".*spec.size.*"),
        Row('patch widget one --type merge -p {"spec":{"size":7}}', "widget.example.com/one patched"),
        Row("scale widget one --replicas 4", "widget.example.com/one scaled"),
        Row("explain widget.spec.size", r"(.*\n)*.*size.*<integer>(.*\n?)*"),
        Row("explain deployment.spec.strategy", r"(.*\n)*.*rollingUpdate.*\n(.*\n?)*"),
        Row("get widgets.v1beta1.example.com one -o jsonpath={.apiVersion}", "example.com/v1beta1"),
        Row("delete widget one", 'widget.example.com "one" deleted.*'),
        Row("delete crd widgets.example.com", 'customresourcedefinition.* "widgets.example.com" deleted'),
        Row("get widgets", "", 1, stderr=".*(doesn't have a resource type|could not find the requested resource).*"),
    ],
    "the-server": [
        Row("version -o json", r'(.*\n)*.*"gitVersion": "v1.33.0\+kaito-.*"(.*\n?)*'),
        Row("api-versions", r"admissionregistration.k8s.io/v1\n(.*\n)*v1"),
        Row("api-resources --api-group apps -o name", r"controllerrevisions.apps\n(.*\n)*statefulsets.apps"),
        Row("get --raw /readyz", "ok"),
        Row("get events", "", stderr="No resources found in default namespace."),
        Row("get nodes", "", stderr="No resources found"),
        Row("get nothing", "", 1, stderr='.*the server doesn\'t have a resource type "nothing"'),
        Row("cluster-info", r"(.*\n)*.*is running at.*https://127.0.0.1(.*\n?)*"),
    ],
}
NOISE = re.compile(r"^(Warning: .*|Flag --.*|I\d{4} .*|.*memcache\.go.*)\n?", re.MULTILINE)


def kubectls() -> list[Any]:
    more = [path for path in os.environ.get("KAITO_KUBECTLS", "").split(":") if path and Path(path).exists()]
    return [pytest.param("", id="kubectl"), *(pytest.param(path, id=Path(path).name) for path in more)]


@pytest.mark.parametrize("program", kubectls())
@pytest.mark.parametrize("name", SCENARIOS)
def test_rows(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, program: str) -> None:
    if program:
        monkeypatch.setenv("KAITO_KUBECTL", program)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/^  replicas: .*/  replicas: 7/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    for row in SCENARIOS[name]:
        stdin = json.dumps(row.stdin) if row.stdin is not None else ""
        done = cluster.kubectl(*row.command.split(), stdin=stdin)
        told = f"kubectl {row.command}\n--- exit {done.returncode}\n{done.stdout}\n--- stderr\n{done.stderr}"
        assert done.returncode == row.code, told
        assert matches(row.stdout, done.stdout), told
        assert matches(row.stderr, NOISE.sub("", done.stderr)), told


def matches(pattern: str, output: str) -> bool:
    words = "\n".join(" ".join(line.split()) if "  " in line.strip() else line.strip() for line in output.splitlines())
    if not pattern:
        return True
    return (
        re.fullmatch(pattern.replace(" +", " "), words.strip(), re.DOTALL if pattern.startswith(".*") else 0)
        is not None
    )
