"""Watches: what they begin with, what they tell, how they end."""

from __future__ import annotations

from tests.local.apiserver.requests.asks import (
    CM,
    MERGE,
    PODS,
    WIDGETS,
    Ask,
    cm,
    delete,
    get,
    patch,
    pod,
    post,
    put,
    widget,
)

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
VERSION = {"start": "metadata.resourceVersion"}
FROM = "watch=1&timeoutSeconds=1&resourceVersion={start}"
LIST_STREAM = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"

SCENARIOS: dict[str, list[Ask]] = {
    "watch-a-life": [
        get(CM, keep=VERSION),
        post(CM, cm(data={"a": "1"})),
        put(f"{CM}/one", cm(data={"a": "2"})),
        patch(MERGE, f"{CM}/one", {"metadata": {"labels": {"x": "y"}}}),
        delete(f"{CM}/one"),
        get(
            f"{CM}?{FROM}",
            want={
                "events.0.type": "ADDED",
                "events.1.type": "MODIFIED",
                "events.2.type": "MODIFIED",
                "events.3.type": "DELETED",
                "events.3.object.data.a": "2",
                "events.4": None,
            },
        ),
        get(f"{CM}?{FROM}&labelSelector=x", want={"events.0.type": "ADDED", "events.1.type": "DELETED"}),
        get(f"{CM}?{FROM}&fieldSelector=metadata.name%3Dtwo", want={"text": ""}),
        get(f"{CM}/one?{FROM}", 404),  # one object is watched by a field selector
        get(f"{CM}?{FROM}", accept=TABLE, want={"events.0.object.kind": "Table"}),
        get(f"{CM}?{FROM}", accept=PARTIAL, want={"events.0.object.kind": "PartialObjectMetadata"}),
    ],
    "watch-what-leaves-a-selection": [
        get(CM, keep=VERSION),
        post(CM, cm(data={"a": "1"}, labels={"team": "a"})),
        patch(MERGE, f"{CM}/one", {"metadata": {"labels": {"team": "b"}}}),
        patch(MERGE, f"{CM}/one", {"metadata": {"labels": {"team": "a"}}}),
        get(
            f"{CM}?{FROM}&labelSelector=team%3Da",
            want={"events.0.type": "ADDED", "events.1.type": "DELETED", "events.2.type": "ADDED", "events.3": None},
        ),
    ],
    "watch-from-now": [
        post(CM, cm("one")),
        get(f"{CM}?watch=1&timeoutSeconds=1", want={"events.0.type": "ADDED", "events.0.object.kind": "ConfigMap"}),
        get(f"{CM}?watch=1&timeoutSeconds=1&resourceVersion=0", want={"events.0.type": "ADDED", "events.1": None}),
        get(
            f"{CM}?watch=1&timeoutSeconds=1&{LIST_STREAM}",
            want={
                "events.0.type": "ADDED",
                "events.1.type": "BOOKMARK",
                "events.1.object.metadata.annotations": {"k8s.io/initial-events-end": "true"},
            },
            differs=("events",),  # this server ends a watch with a bookmark, however short it was
        ),
        get(f"{CM}?watch=1&timeoutSeconds=1&sendInitialEvents=true", 422),
        get(f"{CM}?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
        get(
            f"{CM}?watch=1&timeoutSeconds=1&resourceVersion=abc",
            400,
            differs=("code", "reason", "message"),
            real_code=500,
        ),
        get(f"{CM}?watch=1&timeoutSeconds=1&resourceVersionMatch=Exact&resourceVersion=1", 422),
    ],
    "watch-custom-resources": [
        get(WIDGETS, keep=VERSION),
        post(WIDGETS, widget(size=5)),
        patch(MERGE, f"{WIDGETS}/one/status", {"status": {"phase": "Up"}}),
        delete(f"{WIDGETS}/one"),
        get(f"{WIDGETS}?{FROM}", want={"events.0.object.spec.size": 5, "events.2.type": "DELETED"}),
        get(
            "/apis/example.com/v1beta1/namespaces/{ns}/widgets?" + FROM,
            want={"events.0.object.apiVersion": "example.com/v1beta1"},
        ),
        get(f"{WIDGETS}?{FROM}", accept=TABLE, want={"events.0.object.rows.0.cells.1": 5}),
    ],
    "watch-a-pod-end": [
        get(PODS, keep=VERSION),
        post(PODS, pod()),
        delete(f"{PODS}/one"),
        # A real server marks the pod and then removes it, in two steps; this one in one.
        get(f"{PODS}?{FROM}", want={"events.0.type": "ADDED"}, differs=("events",)),
        get(f"{PODS}?{FROM}&fieldSelector=status.phase%3DPending", differs=("events",)),
        get(f"{PODS}?{FROM}&fieldSelector=status.phase%3DRunning", want={"text": ""}),
        get(f"{PODS}?{FROM}&fieldSelector=spec.nothing%3D1", 400),
    ],
}
