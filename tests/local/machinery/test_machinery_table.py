"""Tables, ages and JSONPath: what people see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.local.machinery import jsonpath
from kaito.local.machinery.ages import age, human_duration
from kaito.local.machinery.jsonpath import JSONPathError
from kaito.local.machinery.kinds import BUILTIN
from kaito.local.machinery.table import table
from tests.local.machinery.builders import deployment, kind, widget_info

Json = dict[str, Any]

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
BORN = "2026-01-02T11:00:00Z"


def row(info: Any, obj: Json, *, wide: bool = False) -> list[Any]:
    """The cells that people see."""
    shown = table(info, [obj], include_object="None", now=NOW, metadata={})
    cells = shown["rows"][0]["cells"]
    pairs = zip(shown["columnDefinitions"], cells, strict=True)
    return [cell for column, cell in pairs if wide or not column["priority"]]


def state(name: str = "c", *, ready: bool = False, restarts: int = 0, **kinds: Json) -> Json:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": kinds}


def pod(phase: str = "Running", containers: int = 1, inits: int = 0, **more: Any) -> Json:
    return {
        "metadata": {"name": "p", "creationTimestamp": BORN, **more.pop("metadata", {})},
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": f"c{index}"} for index in range(containers)],
            "initContainers": [{"name": f"i{index}"} for index in range(inits)],
        },
        "status": {"phase": phase, "podIP": "127.97.0.2", **more},
    }


DONE = {"exitCode": 0, "reason": "Completed"}


@pytest.mark.parametrize(
    ("obj", "ready", "status", "restarts"),
    [
        pytest.param(pod("Pending"), "0/1", "Pending", "0", id="pending"),
        pytest.param(pod(containerStatuses=[state(ready=True, running={"startedAt": BORN})]), "1/1", "Running", "0"),
        pytest.param(
            pod(containerStatuses=[state(restarts=4, waiting={"reason": "CrashLoopBackOff"})]),
            "0/1",
            "CrashLoopBackOff",
            "4",
            id="crash loop",
        ),
        pytest.param(
            pod("Pending", containerStatuses=[state(waiting={"reason": "ContainerCreating"})]),
            "0/1",
            "ContainerCreating",
            "0",
            id="creating",
        ),
        pytest.param(
            pod("Pending", inits=3, initContainerStatuses=[state("i0", terminated=DONE), state("i1", running={})]),
            "0/1",
            "Init:1/3",
            "0",
            id="second of three init containers",
        ),
        pytest.param(
            pod("Pending", inits=1, initContainerStatuses=[state("i0", restarts=2, terminated={"exitCode": 2})]),
            "0/1",
            "Init:ExitCode:2",
            "2",
            id="failed init container",
        ),
        pytest.param(
            pod("Pending", inits=1, initContainerStatuses=[state("i0", waiting={"reason": "CrashLoopBackOff"})]),
            "0/1",
            "Init:CrashLoopBackOff",
            "0",
            id="init crash loop",
        ),
        pytest.param(
            pod("Succeeded", containerStatuses=[state(terminated=DONE)]), "0/1", "Completed", "0", id="completed"
        ),
        pytest.param(
            pod("Failed", containerStatuses=[state(terminated={"exitCode": 137, "reason": "OOMKilled"})]),
            "0/1",
            "OOMKilled",
            "0",
            id="out of memory",
        ),
        pytest.param(
            pod("Failed", containerStatuses=[state(terminated={"exitCode": 1, "signal": 9})]),
            "0/1",
            "Signal:9",
            "0",
            id="killed",
        ),
        pytest.param(
            pod(
                containerStatuses=[state(ready=True, running={})],
                metadata={"deletionTimestamp": "2026-01-02T11:59:00Z"},
            ),
            "1/1",
            "Terminating",
            "0",
            id="terminating",
        ),
        pytest.param(
            pod(
                containers=2,
                containerStatuses=[
                    {**state(restarts=3, ready=True, running={}), "lastState": {"terminated": {"finishedAt": BORN}}},
                    state("c1", terminated=DONE),
                ],
                conditions=[{"type": "Ready", "status": "False"}],
            ),
            "1/2",
            "NotReady",
            "3 (60m ago)",
            id="one of two ended",
        ),
    ],
)
def test_pod(obj: Json, ready: str, status: str, restarts: str) -> None:
    assert row(kind("Pod"), obj) == ["p", ready, status, restarts, "60m"]


def test_pod_wide_and_row_conditions() -> None:
    wide = row(kind("Pod"), pod(), wide=True)
    assert wide[5:] == ["127.97.0.2", "n1", "<none>", "<none>"]
    shown = table(kind("Pod"), [pod("Succeeded")], include_object="None", now=NOW, metadata={})
    assert shown["rows"][0]["conditions"][0]["type"] == "Completed"


META = {"name": "x", "creationTimestamp": BORN}


@pytest.mark.parametrize(
    ("group", "name", "obj", "cells"),
    [
        ("", "Namespace", {"status": {"phase": "Active"}}, ["x", "Active", "60m"]),
        (
            "",
            "Node",
            {
                "metadata": {**META, "labels": {"node-role.kubernetes.io/gpu": ""}},
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {"kubeletVersion": "v1.33"},
                },
            },
            ["x", "Ready,SchedulingDisabled", "gpu", "60m", "v1.33"],
        ),
        (
            "",
            "Service",
            {
                "spec": {
                    "type": "ClusterIP",
                    "clusterIP": "127.96.0.9",
                    "ports": [{"port": 80}, {"port": 29500, "protocol": "TCP"}],
                }
            },
            ["x", "ClusterIP", "127.96.0.9", "<none>", "80/TCP,29500/TCP", "60m"],
        ),
        ("", "ConfigMap", {"data": {"a": "1"}, "binaryData": {"b": ""}}, ["x", 2, "60m"]),
        ("", "Secret", {"type": "Opaque", "data": {"a": ""}}, ["x", "Opaque", 1, "60m"]),
        ("", "ServiceAccount", {}, ["x", "60m"]),
        (
            "apps",
            "Deployment",
            {"spec": {"replicas": 2}, "status": {"readyReplicas": 1, "updatedReplicas": 2}},
            ["x", "1/2", 2, 0, "60m"],
        ),
        ("apps", "ReplicaSet", {"spec": {"replicas": 2}, "status": {"replicas": 2}}, ["x", 2, 2, 0, "60m"]),
        ("apps", "StatefulSet", {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}}, ["x", "2/2", "60m"]),
        (
            "batch",
            "Job",
            {
                "spec": {"completions": 1},
                "status": {
                    "succeeded": 1,
                    "startTime": BORN,
                    "completionTime": "2026-01-02T11:01:30Z",
                    "conditions": [{"type": "Complete", "status": "True"}],
                },
            },
            ["x", "Complete", "1/1", "90s", "60m"],
        ),
        (
            "batch",
            "Job",
            {"status": {"conditions": [{"type": "Suspended", "status": "True"}]}},
            ["x", "Suspended", "0/1", "", "60m"],
        ),
        ("coordination.k8s.io", "Lease", {"spec": {"holderIdentity": "me"}}, ["x", "me", "60m"]),
        (
            "",
            "Event",
            {
                "lastTimestamp": "2026-01-02T11:59:30Z",
                "type": "Warning",
                "reason": "Failed",
                "involvedObject": {"kind": "Pod", "name": "p"},
                "message": "no\n",
            },
            ["30s", "Warning", "Failed", "pod/p", "no"],
        ),
        (
            "",
            "PersistentVolumeClaim",
            {
                "spec": {"volumeName": "v", "storageClassName": "local"},
                "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}},
            },
            ["x", "Bound", "v", "1Gi", "RWO", "local", "<unset>", "60m"],
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            {"roleRef": {"kind": "Role", "name": "r"}, "subjects": []},
            ["x", "Role/r", "60m"],
        ),
        ("apiextensions.k8s.io", "CustomResourceDefinition", {}, ["x", BORN]),
    ],
)
def test_builtin_rows(group: str, name: str, obj: Json, cells: list[Any]) -> None:
    assert row(kind(name, group), {"metadata": META, **obj}) == cells


def test_deployment_wide() -> None:
    assert row(kind("Deployment", "apps"), deployment(), wide=True)[-3:] == ["web", "nginx:1", "app=web"]


def test_custom_columns() -> None:
    obj = {
        "metadata": META,
        "spec": {"size": 3},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert row(widget_info(), obj) == ["x", 3, "True", "60m"]
    assert row(widget_info(), {"metadata": {"name": "x"}}) == ["x", None, None, None]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ("None", None),
        ("Metadata", {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": META}),
        ("Object", {"metadata": META, "kind": "ConfigMap"}),
    ],
)
def test_included_object(include: str, expected: Json | None) -> None:
    obj = {"metadata": META, "kind": "ConfigMap"}
    shown = table(kind("ConfigMap"), [obj], include_object=include, now=NOW, metadata={"resourceVersion": "7"})
    assert shown["rows"][0].get("object") == expected
    assert (shown["kind"], shown["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert shown["metadata"] == {"resourceVersion": "7"}
    assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "Data", "Age"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 600, "5h10m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (3 * 86400 + 7200, "3d2h"),
        (9 * 86400, "9d"),
        (700 * 86400, "700d"),
        (3 * 365 * 86400 + 86400, "3y1d"),
        (9 * 365 * 86400, "9y"),
        (-1, "0s"),
        (-5, "<invalid>"),
    ],
)
def test_human_duration(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize("value", [None, "", "yesterday", 3, "2026-01-02T11:00:00"])
def test_unknown_age(value: Any) -> None:
    assert age(value, NOW) == "<unknown>"


OBJ: Json = {"a": {"b": [1, 2, {"c": "x"}]}, "l": {"app.io/x": "y"}, "items": [{"n": 1, "v": "one"}, {"n": 2}]}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b[0]", [1]),
        (".a.b[-1].c", ["x"]),
        ("{.a.b[2].c}", ["x"]),
        (r".l.app\.io/x", ["y"]),
        (".l['app.io/x']", ["y"]),
        (".items[*].n", [1, 2]),
        (".items[0:1].v", ["one"]),
        (".items[?(@.n==2)].n", [2]),
        (".items[?(@.n>=1)].n", [1, 2]),
        ('.items[?(@.v=="one")].n', [1]),
        (".items[?(@.v!='one')].n", []),
        (".items[?(@.v)].n", [1]),
        (".missing.deep", []),
        (".a.b.c", []),
    ],
)
def test_jsonpath(path: str, found: list[Any]) -> None:
    assert jsonpath.find(path, OBJ) == found


@pytest.mark.parametrize("path", [".a[", ".a[?(@.b==oops)]", "a b", ".a[?(b)]"])
def test_bad_jsonpath(path: str) -> None:
    with pytest.raises(JSONPathError):
        jsonpath.parse(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "phase", "containers", "conditions", "type", "status", "ports", "containerStatuses", "state"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["spec", "status", "subsets", "data", "series"]), json_values, max_size=4))
def test_no_object_breaks_a_printer(obj: Json) -> None:
    for info in (*BUILTIN, widget_info()):
        shown = table(info, [{**obj, "metadata": META}], include_object="None", now=NOW, metadata={})
        assert len(shown["rows"][0]["cells"]) == len(shown["columnDefinitions"])
