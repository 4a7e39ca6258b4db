"""The four kinds of patches, and who owns what after them."""

from __future__ import annotations

from typing import Any

from tests.local.apiserver.requests.asks import (
    APPLY,
    CM,
    DEPLOYMENTS,
    JSON_PATCH,
    MERGE,
    STRATEGIC,
    WORDS,
    Ask,
    Json,
    cm,
    deployment,
    get,
    patch,
    post,
    put,
)

OWN_REFUSAL = ("code", "reason", "details", *WORDS)
"""Where a real server answers 500: it is the request that is wrong, and this one says so."""


def container(name: str, image: str = "nginx:1.25", **more: Any) -> Json:
    return {"name": name, "image": image, **more}


def with_containers(*names: str) -> Json:
    return deployment_of([container(name) for name in names])


def with_environment(variables: Json) -> Json:
    env = [{"name": name, "value": value} for name, value in variables.items()]
    return deployment_of([container("two", env=env)])


def deployment_of(containers: list[Json]) -> Json:
    made = deployment()
    made["spec"]["template"] = {**made["spec"]["template"], "spec": {"containers": containers}}
    return made


def containers_patch(*names: str, order: list[str] | None = None) -> Json:
    spec: Json = {"containers": [container(name) for name in names]} if names else {}
    if order is not None:
        spec["$setElementOrder/containers"] = [{"name": name} for name in order]
    return {"spec": {"template": {"spec": spec}}}


SCENARIOS: dict[str, list[Ask]] = {
    "merge-patch": [
        post(CM, cm(data={"a": "1", "b": "2"})),
        patch(MERGE, f"{CM}/one", {"data": {"a": None, "c": "3"}}, want={"data": {"b": "2", "c": "3"}}),
        patch(MERGE, f"{CM}/one", {"metadata": {"labels": {"x": "y"}}}, want={"metadata.labels": {"x": "y"}}),
        patch(MERGE, f"{CM}/one", {"metadata": {"resourceVersion": "1"}}, 409, want={"reason": "Conflict"}),
        patch(MERGE, f"{CM}/one", {"metadata": {"labels": {"x": None}}}, want={"metadata.labels": None}),
        patch(MERGE, f"{CM}/none", {"data": {}}, 404),
        patch(MERGE, f"{CM}/one", "[1]", 400),
        patch("text/plain", f"{CM}/one", "{}", 415, want={"reason": "UnsupportedMediaType"}),
    ],
    "json-patch": [
        post(CM, cm(data={"a": "1"})),
        patch(
            JSON_PATCH,
            f"{CM}/one",
            [{"op": "add", "path": "/data/b", "value": "2"}],
            want={"data": {"a": "1", "b": "2"}},
        ),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "replace", "path": "/data/a", "value": "9"}], want={"data.a": "9"}),
        patch(
            JSON_PATCH, f"{CM}/one", [{"op": "test", "path": "/data/a", "value": "1"}], 422, want={"reason": "Invalid"}
        ),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "remove", "path": "/data/none"}], 422, want={"reason": "Invalid"}),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "remove", "path": "/data/b"}], want={"data": {"a": "9"}}),
        patch(JSON_PATCH, f"{CM}/one", {"op": "add"}, 400),
    ],
    "strategic-merge-patch": [
        post(DEPLOYMENTS, deployment(), want={"metadata.generation": 1, "spec.replicas": 1}),
        patch(
            STRATEGIC,
            f"{DEPLOYMENTS}/web",
            {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "x"}]}}}},
            want={
                "spec.template.spec.containers.1.image": "?",
                "metadata.generation": 2,
            },
        ),
        patch(
            STRATEGIC,
            f"{DEPLOYMENTS}/web",
            {"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}},
            want={
                "spec.template.spec.containers.0.name": "c0",
                "metadata.generation": 3,
            },
        ),
        patch(
            STRATEGIC, f"{DEPLOYMENTS}/web", {"metadata": {"annotations": {"a": "b"}}}, want={"metadata.generation": 4}
        ),
        patch(
            STRATEGIC,
            f"{DEPLOYMENTS}/web",
            {"spec": {"selector": {"matchLabels": {"app": "x"}}}},
            422,
            want={"reason": "Invalid"},
        ),
    ],
    "apply": [
        patch(
            APPLY, f"{CM}/one?fieldManager=a", cm(data={"x": "1", "y": "1"}), 201, want={"data": {"x": "1", "y": "1"}}
        ),
        patch(APPLY, f"{CM}/one?fieldManager=a", cm(data={"x": "1"}), want={"data": {"x": "1"}}),
        patch(
            APPLY,
            f"{CM}/one?fieldManager=b",
            cm(data={"x": "2"}),
            409,
            want={
                "reason": "Conflict",
                "details.causes.0.field": ".data.x",
                "details.causes.0.reason": "FieldManagerConflict",
                "message": 'Apply failed with 1 conflict: conflict with "a": .data.x',
            },
        ),
        patch(APPLY, f"{CM}/one?fieldManager=b&force=true", cm(data={"x": "2"}), want={"data": {"x": "2"}}),
        patch(APPLY, f"{CM}/one?fieldManager=a", cm(data={"z": "3"}), want={"data": {"x": "2", "z": "3"}}),
        patch(APPLY, f"{CM}/one?fieldManager=b", cm(), want={"data": {"z": "3"}}),
        patch(APPLY, f"{CM}/one", cm(), 422),
        patch(APPLY, f"{CM}/one?fieldManager=a", {**cm(), "kind": "Secret"}, 400),
        patch(APPLY, f"{CM}/one?fieldManager=a", {**cm(), "metadata": {"name": "two"}}, 400),
        patch(MERGE, f"{CM}/one?force=true", {}, 422, want={"details.causes.0.field": "force"}),
    ],
    "apply-keeps-other-managers": [
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=a", deployment(), 201),
        patch(
            MERGE,
            f"{DEPLOYMENTS}/web/scale",
            {"spec": {"replicas": 4}},
            want={"spec.replicas": 4, "kind": "Scale", "apiVersion": "autoscaling/v1"},
        ),
        patch(
            APPLY,
            f"{DEPLOYMENTS}/web?fieldManager=a",
            deployment(image="nginx:2"),
            want={
                "spec.replicas": 4,
                "spec.template.spec.containers.0.image": "nginx:2",
                "metadata.generation": 3,
            },
        ),
        # Nobody owned the replicas, so the scale took nothing from anybody and there is nothing to fight over.
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=a", deployment(image="nginx:2", replicas=1)),
        patch(MERGE, f"{DEPLOYMENTS}/web/scale?fieldManager=s", {"spec": {"replicas": 2}}),
        patch(
            APPLY,
            f"{DEPLOYMENTS}/web?fieldManager=a",
            deployment(image="nginx:2", replicas=1),
            409,
            want={"details.causes.0.field": ".spec.replicas"},
        ),
        get(f"{DEPLOYMENTS}/web", want={"spec.replicas": 2}),
    ],
    "apply-lists": [
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=a", with_containers("one", "two"), 201),
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=b", with_containers("three", "one")),
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=a", with_containers("two")),
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=b", with_containers("four")),
        get(f"{DEPLOYMENTS}/web", want={"metadata.generation": 3}),
        patch(
            APPLY,
            f"{DEPLOYMENTS}/web?fieldManager=a",
            with_environment({"A": "1", "B": "2"}),
        ),
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=c&force=true", with_environment({"B": "3"})),
        patch(APPLY, f"{DEPLOYMENTS}/web?fieldManager=a", with_environment({"A": "1"})),
        get(f"{DEPLOYMENTS}/web"),
    ],
    "apply-after-update": [
        post(f"{CM}?fieldManager=first", cm(data={"a": "1", "b": "2"}, labels={"x": "1"})),
        patch(APPLY, f"{CM}/one?fieldManager=second", cm(data={"a": "1"}, labels={"y": "2"})),
        patch(APPLY, f"{CM}/one?fieldManager=second", cm(data={"a": "9"}), 409),
        patch(APPLY, f"{CM}/one?fieldManager=second&force=true", cm(data={"a": "9", "c": "3"})),
        put(f"{CM}/one?fieldManager=third", cm(data={"a": "9", "c": "4"})),
        patch(APPLY, f"{CM}/one?fieldManager=second", cm(data={"a": "9"})),
        get(f"{CM}/one", want={"data": {"a": "9", "c": "4"}}),
        patch(MERGE, f"{CM}/one", {"metadata": {"managedFields": []}}, want={"metadata.managedFields": None}),
        patch(APPLY, f"{CM}/one?fieldManager=second", cm(data={"a": "0"}), 409),
        patch(APPLY, f"{CM}/one?fieldManager=second&force=true&dryRun=All", cm(data={"a": "0"})),
        patch(
            APPLY,
            f"{CM}/two?fieldManager=" + "m" * 129,
            cm("two"),
            422,
            want={"details.causes.0.reason": "FieldValueTooLong"},
        ),
        patch(
            APPLY,
            f"{CM}/two?fieldManager=a",
            {**cm("two"), "typo": 1},
            400,
            differs=OWN_REFUSAL,
            real_code=500,
        ),
    ],
    "strategic-order": [
        post(DEPLOYMENTS, with_containers("one", "two")),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", containers_patch("three", "one")),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", containers_patch("four", order=["one", "four"])),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", containers_patch(order=["four", "three"])),
        patch(
            STRATEGIC,
            f"{DEPLOYMENTS}/web",
            containers_patch("five", order=["nobody"]),
            400,
            differs=OWN_REFUSAL,
            real_code=500,
        ),
        patch(
            STRATEGIC,
            f"{DEPLOYMENTS}/web",
            {"spec": {"template": {"spec": {"containers": [{"$patch": "replace"}, container("only")]}}}},
        ),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        patch(
            STRATEGIC,
            f"{DEPLOYMENTS}/web",
            {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}},
            400,
            differs=OWN_REFUSAL,
            real_code=500,
        ),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", {"metadata": {"finalizers": ["a.b/c"]}}),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", {"metadata": {"finalizers": ["a.b/d"]}}),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/c"]}}),
        patch(STRATEGIC, f"{DEPLOYMENTS}/web", {"metadata": {"finalizers": None}}),
    ],
    "json-patch-operations": [
        post(CM, cm(data={"a": "1", "b.c": "2"})),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "copy", "from": "/data/a", "path": "/data/z"}]),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "move", "from": "/data/b.c", "path": "/data/y"}]),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "add", "path": "/metadata/labels", "value": {"x": "y"}}]),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "test", "path": "/data/z", "value": "1"}]),
        patch(
            JSON_PATCH, f"{CM}/one", [{"op": "replace", "path": "/metadata/name", "value": "two"}], 400, differs=WORDS
        ),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "replace", "path": "/kind", "value": "Secret"}], 422, differs=WORDS),
        patch(JSON_PATCH, f"{CM}/one", [{"op": "leap", "path": "/data/z"}], 422, differs=WORDS),
        patch(JSON_PATCH, f"{CM}/one", [], want={"data": {"a": "1", "z": "1", "y": "2"}}),
    ],
}
