"""The API's requests as data: sequences that hold on any Kubernetes API server, and what each answer must contain.

Run against the embedded server always, and against a real kube-apiserver where KUBEBUILDER_ASSETS names one
(`test_request_suite.py`). Every scenario has a namespace of its own, `{ns}` in paths and bodies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

CM = "/api/v1/namespaces/{ns}/configmaps"
SECRETS = "/api/v1/namespaces/{ns}/secrets"
PODS = "/api/v1/namespaces/{ns}/pods"
SERVICES = "/api/v1/namespaces/{ns}/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{ns}/deployments"
JOBS = "/apis/batch/v1/namespaces/{ns}/jobs"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/{ns}/widgets"


@dataclass(frozen=True)
class Ask:
    """One request. `want` is a part of the answer's JSON: dotted paths -> values; None means absent."""

    method: str
    path: str
    body: Any = None
    code: int = 200
    want: Json = field(default_factory=dict)
    media: str = "application/json"
    accept: str = "application/json"


def get(path: str, code: int = 200, **options: Any) -> Ask:
    return Ask("GET", path, None, code, **options)


def post(path: str, body: Any, code: int = 201, **options: Any) -> Ask:
    return Ask("POST", path, body, code, **options)


def put(path: str, body: Any, code: int = 200, **options: Any) -> Ask:
    return Ask("PUT", path, body, code, **options)


def patch(media: str, path: str, body: Any, code: int = 200, **options: Any) -> Ask:
    return Ask("PATCH", path, body, code, media=media, **options)


def delete(path: str, body: Any = None, code: int = 200, **options: Any) -> Ask:
    return Ask("DELETE", path, body, code, **options)


def cm(name: str = "one", data: Json | None = None, **metadata: Any) -> Json:
    made: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return {**made, "data": data} if data is not None else made


def pod_spec(*images: str, **spec: Any) -> Json:
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    return {"containers": containers, **spec}


def pod(name: str = "one", **spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec("nginx:1.25", **spec)}


def deployment(name: str = "web", image: str = "nginx:1.25", **spec: Any) -> Json:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(image)}
    made: Json = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}}
    return {**made, "spec": {"selector": {"matchLabels": labels}, "template": template, **spec}}


def job(name: str = "one", **spec: Any) -> Json:
    template = {"spec": pod_spec("busybox", restartPolicy="Never")}
    metadata = {"name": name}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}


def service(name: str = "one", **spec: Any) -> Json:
    spec = {"ports": [{"port": 80}], "selector": {"a": "b"}, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def widget(name: str = "one", **spec: Any) -> Json:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


WIDGET_SPEC = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3},
        "color": {"type": "string", "enum": ["red", "blue"]},
        "min": {"type": "integer"},
        "max": {"type": "integer"},
        "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is fixed"}]},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "replicas": {"type": "integer"},
    },
    "x-kubernetes-validations": [
        {"rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "message": "min must not exceed max"}
    ],
}
WIDGET_STATUS = {"type": "object", "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}}}
WIDGET_VERSION = {
    "served": True,
    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": WIDGET_SPEC, "status": WIDGET_STATUS}}},
    "subresources": {
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    },
    "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
}
WIDGET_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
        "versions": [
            {"name": "v1", "storage": True, **WIDGET_VERSION},
            {"name": "v1beta1", "storage": False, **WIDGET_VERSION},
        ],
    },
}
STALE = "the object has been modified; please apply your changes to the latest version and try again"

SCENARIOS: dict[str, list[Ask]] = {
    "create-get-list-delete": [
        get(CM, want={"kind": "ConfigMapList"}),
        post(CM, cm(data={"a": "1"}), want={"data.a": "1", "metadata.namespace": "{ns}", "metadata.generation": None}),
        get(f"{CM}/one", want={"data.a": "1", "apiVersion": "v1", "kind": "ConfigMap"}),
        get(CM, want={"items.0.metadata.name": "one"}),
        delete(f"{CM}/one", want={"status": "Success", "details.name": "one", "details.kind": "configmaps"}),
        get(f"{CM}/one", 404, want={"reason": "NotFound", "message": 'configmaps "one" not found'}),
    ],
    "create-refusals": [
        post(CM, cm(data={"a": "1"})),
        post(CM, cm(), 409, want={"reason": "AlreadyExists", "message": 'configmaps "one" already exists'}),
        post(CM, cm("Bad_Name"), 422, want={"reason": "Invalid", "details.causes.0.field": "metadata.name"}),
        post(
            CM,
            cm(""),
            422,
            want={"details.causes.0.field": "metadata.name", "details.causes.0.reason": "FieldValueRequired"},
        ),
        post(CM, cm("two", namespace="elsewhere"), 400, want={"reason": "BadRequest"}),
        post(
            CM,
            cm("two", resourceVersion="1"),
            400,
            want={"message": "resourceVersion should not be set on objects to be created"},
        ),
        post(CM, pod(), 400, want={"reason": "BadRequest"}),
        post(CM, "{", 400, want={"reason": "BadRequest"}),
        post(CM, "[]", 400, want={"reason": "BadRequest"}),
        post(CM, cm("two"), 415, media="text/plain", want={"reason": "UnsupportedMediaType"}),
        post(CM, cm("two", labels={"a": "no spaces"}), 422, want={"details.causes.0.field": "metadata.labels"}),
        post(CM, cm("two", labels={"/x": "y"}), 422, want={"details.causes.0.field": "metadata.labels"}),
        post(
            "/api/v1/namespaces/{ns}-none/configmaps", cm(), 404, want={"message": 'namespaces "{ns}-none" not found'}
        ),
        post("/api/v1/configmaps", cm(), 405, want={"reason": "MethodNotAllowed"}),
    ],
    "paths-that-are-none": [
        get(
            "/api/v1/namespaces/{ns}/nothings",
            404,
            want={"message": "the server could not find the requested resource"},
        ),
        get("/apis/none.example/v1/things", 404, want={"reason": "NotFound"}),
        get(f"{CM}/one/status", 404, want={"reason": "NotFound"}),
        delete("/api/v1/namespaces/{ns}/nothings/a", code=404),
    ],
    "update": [
        post(CM, cm(data={"a": "1"})),
        put(f"{CM}/one", cm(data={"a": "2"}), want={"data.a": "2"}),
        put(
            f"{CM}/one",
            cm(data={"a": "3"}, resourceVersion="1"),
            409,
            want={
                "reason": "Conflict",
                "message": f'Operation cannot be fulfilled on configmaps "one": {STALE}',
                "details.name": "one",
                "details.kind": "configmaps",
            },
        ),
        put(f"{CM}/one", cm("other"), 400, want={"reason": "BadRequest"}),
        put(f"{CM}/none", cm("none"), 404, want={"reason": "NotFound"}),
        put(f"{CM}/one", cm(uid="00000000-0000-0000-0000-000000000000"), 409, want={"reason": "Conflict"}),
    ],
    "generate-name": [
        post(
            CM,
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}},
            want={"metadata.generateName": "run-"},
        ),
        get(CM, want={"items.0.metadata.generateName": "run-"}),
    ],
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
            STRATEGIC, f"{DEPLOYMENTS}/web", {"metadata": {"annotations": {"a": "b"}}}, want={"metadata.generation": 3}
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
        patch(
            APPLY,
            f"{DEPLOYMENTS}/web?fieldManager=a",
            deployment(image="nginx:2", replicas=1),
            409,
            want={"details.causes.0.field": ".spec.replicas"},
        ),
    ],
    "dry-run": [
        post(f"{CM}?dryRun=All", cm(data={"a": "1"}), want={"data.a": "1"}),
        get(f"{CM}/one", 404),
        post(CM, cm(data={"a": "1"})),
        put(f"{CM}/one?dryRun=All", cm(data={"a": "2"}), want={"data.a": "2"}),
        patch(MERGE, f"{CM}/one?dryRun=All", {"data": {"a": "3"}}, want={"data.a": "3"}),
        delete(f"{CM}/one?dryRun=All", want={"status": "Success"}),
        get(f"{CM}/one", want={"data.a": "1"}),
        post(f"{CM}?dryRun=Some", cm("two"), 422),
    ],
    "field-validation": [
        post(f"{DEPLOYMENTS}?fieldValidation=Strict", deployment(typo=1), 400, want={"reason": "BadRequest"}),
        post(f"{DEPLOYMENTS}?fieldValidation=Ignore", deployment(typo=1), want={"spec.typo": None}),
        post(f"{DEPLOYMENTS}?fieldValidation=Warn", deployment("two", typo=1), want={"spec.typo": None}),
        post(
            f"{CM}?fieldValidation=Strict",
            '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"},"data":{"a":"1","a":"2"}}',
            400,
        ),
        post(f"{CM}?fieldValidation=Maybe", cm(), 422),
    ],
    "selectors": [
        post(CM, cm("a", labels={"tier": "web", "env": "prod"})),
        post(CM, cm("b", labels={"tier": "web"})),
        post(CM, cm("c", labels={"tier": "db"})),
        get(f"{CM}?labelSelector=tier%3Dweb", want={"items.1.metadata.name": "b", "items.2": None}),
        get(f"{CM}?labelSelector=tier%3Dweb,env", want={"items.0.metadata.name": "a", "items.1": None}),
        get(f"{CM}?labelSelector=tier%20in%20(db)", want={"items.0.metadata.name": "c", "items.1": None}),
        get(f"{CM}?labelSelector=tier!%3Dweb", want={"items.0.metadata.name": "c"}),
        get(f"{CM}?labelSelector=!tier", want={"items.0.metadata.name": "kube-root-ca.crt?"}),
        get(f"{CM}?fieldSelector=metadata.name%3Db", want={"items.0.metadata.name": "b", "items.1": None}),
        get(f"{CM}?labelSelector=a%20b%20c", 400, want={"reason": "BadRequest"}),
        get(f"{CM}?fieldSelector=spec.none%3Db", 400, want={"reason": "BadRequest"}),
        delete(f"{CM}?labelSelector=tier%3Dweb", want={"kind": "ConfigMapList"}),
        get(f"{CM}?labelSelector=tier", want={"items.0.metadata.name": "c", "items.1": None}),
    ],
    "pages": [
        *(post(CM, cm(name, labels={"page": "yes"})) for name in "abc"),
        get(
            f"{CM}?limit=2&labelSelector=page",
            want={"items.1.metadata.name": "b", "items.2": None, "metadata.remainingItemCount": None},
        ),
        get(f"{CM}?limit=abc", 400),
        get(f"{CM}?continue=nonsense", 400),
        get(f"{CM}?resourceVersion=x", 400),
        get(f"{CM}?resourceVersionMatch=Exact", 422),
    ],
    "preconditions": [
        post(CM, cm()),
        delete(
            f"{CM}/one",
            {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}},
            409,
            want={"reason": "Conflict"},
        ),
        delete(f"{CM}/one", {"preconditions": {"resourceVersion": "1"}}, 409, want={"reason": "Conflict"}),
        delete(f"{CM}/one", {"propagationPolicy": "Sideways"}, 422),
        delete(f"{CM}/one", {"gracePeriodSeconds": 0}),
        delete(f"{CM}/one", code=404, want={"message": 'configmaps "one" not found'}),
    ],
    "finalizers": [
        post(CM, cm(finalizers=["example.com/hold"])),
        delete(
            f"{CM}/one", want={"metadata.finalizers": ["example.com/hold"], "metadata.deletionGracePeriodSeconds": 0}
        ),
        get(f"{CM}/one", want={"metadata.name": "one"}),
        patch(
            MERGE,
            f"{CM}/one",
            {"metadata": {"finalizers": ["example.com/hold", "example.com/new"]}},
            422,
            want={"details.causes.0.field": "metadata.finalizers"},
        ),
        patch(MERGE, f"{CM}/one", {"metadata": {"finalizers": None}}, want={"metadata.name": "one"}),
        get(f"{CM}/one", 404),
        post(CM, cm("two", finalizers=["no"]), 422, want={"reason": "Invalid"}),
    ],
    "foreground": [
        post(CM, cm()),
        delete(f"{CM}/one", {"propagationPolicy": "Foreground"}, want={"metadata.finalizers": ["foregroundDeletion"]}),
    ],
    "pods": [
        post(
            PODS,
            pod(),
            want={
                "status.phase": "Pending",
                "status.qosClass": "BestEffort",
                "spec.restartPolicy": "Always",
                "spec.dnsPolicy": "ClusterFirst",
                "spec.terminationGracePeriodSeconds": 30,
                "spec.schedulerName": "default-scheduler",
                "spec.containers.0.imagePullPolicy": "IfNotPresent",
                "spec.containers.0.terminationMessagePath": "/dev/termination-log",
                "spec.serviceAccountName": "default",
                "spec.enableServiceLinks": True,
            },
        ),
        post(PODS, {**pod("two"), "spec": {"containers": []}}, 422, want={"details.causes.0.field": "spec.containers"}),
        post(PODS, {**pod("two"), "spec": {"containers": [{"name": "a"}]}}, 422),
        patch(
            STRATEGIC, f"{PODS}/one", {"spec": {"restartPolicy": "Never"}}, 422, want={"details.causes.0.field": "spec"}
        ),
        patch(
            STRATEGIC,
            f"{PODS}/one",
            {"spec": {"containers": [{"name": "c0", "image": "nginx:9"}]}},
            want={"spec.containers.0.image": "nginx:9"},
        ),
        patch(
            MERGE,
            f"{PODS}/one/status",
            {"status": {"phase": "Running"}, "spec": {"nodeName": "x"}},
            want={"status.phase": "Running", "spec.nodeName": None},
        ),
        patch(MERGE, f"{PODS}/one", {"status": {"phase": "Failed"}}, want={"status.phase": "Running"}),
        get(f"{PODS}?fieldSelector=status.phase%3DRunning", want={"items.0.metadata.name": "one"}),
        get(f"{PODS}?fieldSelector=spec.nodeName%3Dn1", want={"items.0": None}),
        delete(f"{PODS}/one", {"gracePeriodSeconds": 0}),
        get(f"{PODS}/one", 404),
    ],
    "pods-binding-and-grace": [
        post(PODS, pod()),
        post(
            f"{PODS}/one/binding",
            {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": "one"},
                "target": {"kind": "Node", "name": "n1"},
            },
            want={"status": "Success"},
        ),
        get(f"{PODS}/one", want={"spec.nodeName": "n1", "status.conditions.0.type": "PodScheduled"}),
        post(
            f"{PODS}/one/binding",
            {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": "one"},
                "target": {"kind": "Node", "name": "n2"},
            },
            409,
        ),
        delete(f"{PODS}/one", want={"metadata.deletionGracePeriodSeconds": 30, "kind": "Pod"}),
        get(f"{PODS}/one", want={"metadata.deletionGracePeriodSeconds": 30}),
        delete(f"{PODS}/one", {"gracePeriodSeconds": 0}),
        get(f"{PODS}/one", 404),
    ],
    "deployments": [
        post(
            DEPLOYMENTS,
            deployment(),
            want={
                "spec.strategy.type": "RollingUpdate",
                "spec.strategy.rollingUpdate.maxSurge": "25%",
                "spec.revisionHistoryLimit": 10,
                "spec.progressDeadlineSeconds": 600,
                "spec.template.spec.restartPolicy": "Always",
            },
        ),
        post(
            DEPLOYMENTS,
            {**deployment("two"), "spec": {"template": {"spec": pod_spec("x")}}},
            422,
            want={"reason": "Invalid"},
        ),
        post(DEPLOYMENTS, deployment("two", replicas="many"), 400),
        get(f"{DEPLOYMENTS}/web/scale", want={"spec.replicas": 1, "status.replicas": 0, "status.selector": "app=web"}),
        patch(
            MERGE,
            f"{DEPLOYMENTS}/web/status",
            {"status": {"replicas": 1, "readyReplicas": 1}},
            want={"status.readyReplicas": 1, "metadata.generation": 1},
        ),
        get(f"{DEPLOYMENTS}/web/status", want={"status.readyReplicas": 1}),
        patch(MERGE, f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": -1}}, 422),
        delete(
            f"{DEPLOYMENTS}/web", want={"status": "Success", "details.group": "apps", "details.kind": "deployments"}
        ),
    ],
    "jobs": [
        post(
            JOBS,
            job(),
            want={
                "spec.backoffLimit": 6,
                "spec.completions": 1,
                "spec.parallelism": 1,
                "spec.suspend": False,
                "spec.completionMode": "NonIndexed",
                "spec.template.metadata.labels.job-name": "one",
            },
        ),
        post(
            JOBS,
            {**job("two"), "spec": {"template": {"spec": pod_spec("x")}}},
            422,
            want={"details.causes.0.field": "spec.template.spec.restartPolicy"},
        ),
        patch(
            STRATEGIC,
            f"{JOBS}/one",
            {"spec": {"template": {"spec": {"containers": [{"name": "c0", "image": "y"}]}}}},
            422,
        ),
        patch(MERGE, f"{JOBS}/one", {"spec": {"suspend": True}}, want={"spec.suspend": True, "metadata.generation": 2}),
        patch(MERGE, f"{JOBS}/one/status", {"status": {"active": 1}}, want={"status.active": 1}),
    ],
    "services": [
        post(
            SERVICES,
            service(),
            want={
                "spec.type": "ClusterIP",
                "spec.ports.0.protocol": "TCP",
                "spec.ports.0.targetPort": 80,
                "spec.sessionAffinity": "None",
            },
        ),
        post(
            SERVICES,
            service("headless", clusterIP="None"),
            want={"spec.clusterIP": "None", "spec.clusterIPs": ["None"]},
        ),
        post(SERVICES, service("1bad"), 422, want={"details.causes.0.field": "metadata.name"}),
        post(SERVICES, service("two", ports=[]), 422, want={"details.causes.0.field": "spec.ports"}),
        post(SERVICES, service("two", type="Nope"), 422, want={"details.causes.0.field": "spec.type"}),
        post(SERVICES, service("two", ports=[{"port": 1}, {"port": 2}]), 422),
        patch(
            MERGE, f"{SERVICES}/one", {"spec": {"selector": {"c": "d"}}}, want={"spec.selector": {"a": "b", "c": "d"}}
        ),
    ],
    "secrets": [
        post(
            SECRETS,
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}, "stringData": {"a": "text"}},
            want={"data.a": "dGV4dA==", "type": "Opaque", "stringData": None},
        ),
        post(
            SECRETS,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "two"},
                "type": "kubernetes.io/dockerconfigjson",
            },
            422,
            want={"details.causes.0.field": "data[.dockerconfigjson]"},
        ),
        patch(MERGE, f"{SECRETS}/one", {"type": "other"}, 422, want={"details.causes.0.field": "type"}),
        patch(
            MERGE, f"{SECRETS}/one", {"stringData": {"b": "more"}}, want={"data": {"a": "dGV4dA==", "b": "bW9yZQ=="}}
        ),
    ],
    "leases": [
        post(
            LEASES,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "one"},
                "spec": {
                    "holderIdentity": "me",
                    "leaseDurationSeconds": 15,
                    "renewTime": "2026-01-01T00:00:00.000000Z",
                },
            },
            want={"spec.holderIdentity": "me"},
        ),
        patch(
            MERGE,
            f"{LEASES}/one",
            {"spec": {"holderIdentity": "you"}},
            want={"spec.holderIdentity": "you", "spec.leaseDurationSeconds": 15},
        ),
    ],
    "events-in-both-groups": [
        post(
            "/api/v1/namespaces/{ns}/events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": "e1"},
                "type": "Normal",
                "reason": "Done",
                "message": "words",
                "involvedObject": {"kind": "ConfigMap", "name": "one", "namespace": "{ns}", "uid": "u1"},
                "source": {"component": "me"},
            },
        ),
        get(
            "/apis/events.k8s.io/v1/namespaces/{ns}/events/e1",
            want={"note": "words", "regarding.name": "one", "message": None, "apiVersion": "events.k8s.io/v1"},
        ),
        get(
            "/api/v1/namespaces/{ns}/events?fieldSelector=involvedObject.name%3Done,type%3DNormal",
            want={"items.0.reason": "Done"},
        ),
        get("/api/v1/namespaces/{ns}/events?fieldSelector=involvedObject.name%3Dtwo", want={"items.0": None}),
    ],
    "reviews": [
        post(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "{ns}"}},
            },
            want={"status.allowed": True},
        ),
        post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
            want={"kind": "SelfSubjectReview"},
        ),
        get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
    ],
    "tables": [
        post(CM, cm("aa", {"k": "v"}, labels={"t": "y"})),
        get(
            f"{CM}?labelSelector=t",
            accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            want={
                "kind": "Table",
                "rows.0.cells.0": "aa",
                "rows.0.cells.1": 1,
                "columnDefinitions.0.name": "Name",
                "rows.0.object.kind": "PartialObjectMetadata",
            },
        ),
        get(
            f"{CM}/aa",
            accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            want={"kind": "PartialObjectMetadata", "data": None, "metadata.name": "aa"},
        ),
        get(f"{CM}/aa", 406, accept="text/html", want={"reason": "NotAcceptable"}),
    ],
    "custom-resources": [
        post(WIDGETS, widget(size=5), want={"spec.size": 5, "metadata.generation": 1}),
        post(WIDGETS, widget("two"), want={"spec.size": 3}),
        post(
            WIDGETS,
            widget("bad", size=11),
            422,
            want={"reason": "Invalid", "details.causes.0.field": "spec.size", "details.kind": "Widget"},
        ),
        post(
            WIDGETS,
            widget("bad", color="green"),
            422,
            want={"details.causes.0.field": "spec.color", "details.causes.0.reason": "FieldValueNotSupported"},
        ),
        post(WIDGETS, widget("bad", size="x"), 422, want={"details.causes.0.reason": "FieldValueTypeInvalid"}),
        post(WIDGETS, widget("bad", min=5, max=1), 422, want={"details.causes.0.field": "spec"}),
        post(WIDGETS, widget("three", unknown=1, any={"x": {"y": 1}}), want={"spec.unknown": None, "spec.any.x.y": 1}),
        post(
            f"{WIDGETS}?fieldValidation=Strict",
            widget("bad", unknown=1),
            400,
            want={
                "message": 'Widget in version "v1" cannot be handled as a Widget: '
                'strict decoding error: unknown field "spec.unknown"'
            },
        ),
        patch(MERGE, f"{WIDGETS}/one", {"spec": {"size": 6}}, want={"spec.size": 6, "metadata.generation": 2}),
        patch(STRATEGIC, f"{WIDGETS}/one", {"spec": {"size": 6}}, 415, want={"reason": "UnsupportedMediaType"}),
        patch(MERGE, f"{WIDGETS}/one", {"spec": {"fixed": "a"}}, want={"spec.fixed": "a"}),
        patch(MERGE, f"{WIDGETS}/one", {"spec": {"fixed": "b"}}, 422, want={"details.causes.0.field": "spec.fixed"}),
        put(f"{WIDGETS}/one", widget(size=1), 422, want={"details.causes.0.field": "metadata.resourceVersion"}),
        patch(
            MERGE,
            f"{WIDGETS}/one/status",
            {"status": {"phase": "Up"}, "spec": {"size": 9}},
            want={"status.phase": "Up", "spec.size": 6, "metadata.generation": 3},
        ),
        patch(MERGE, f"{WIDGETS}/one", {"status": {"phase": "Down"}}, want={"status.phase": "Up"}),
        patch(MERGE, f"{WIDGETS}/one/scale", {"spec": {"replicas": 3}}, want={"kind": "Scale", "spec.replicas": 3}),
        get(f"{WIDGETS}/one", want={"spec.replicas": 3}),
        get(
            "/apis/example.com/v1beta1/namespaces/{ns}/widgets/one",
            want={"apiVersion": "example.com/v1beta1", "spec.size": 6},
        ),
        get(
            WIDGETS,
            accept="application/json;as=Table;v=v1;g=meta.k8s.io",
            want={"columnDefinitions.1.name": "Size", "rows.0.cells.1": 6},
        ),
        patch(APPLY, f"{WIDGETS}/one?fieldManager=a&force=true", widget(size=7), want={"spec.size": 7}),
        delete(f"{WIDGETS}/two", want={"status": "Success", "details.kind": "widgets"}),
        get("/apis/example.com/v1", want={"resources.0.name": "widgets", "resources.0.shortNames": ["wd"]}),
    ],
    "bad-crds": [
        post(CRDS, {**WIDGET_CRD, "metadata": {"name": "wrong.example.com"}}, 422, want={"reason": "Invalid"}),
        get(
            f"{CRDS}/widgets.example.com",
            want={
                "status.conditions.1.type": "Established",
                "status.storedVersions": ["v1"],
                "status.acceptedNames.kind": "Widget",
            },
        ),
    ],
    "documents": [
        get("/version", want={"major": "1"}),
        get("/api", want={"kind": "APIVersions", "versions": ["v1"]}),
        get("/apis", want={"kind": "APIGroupList"}),
        get("/api/v1", want={"kind": "APIResourceList", "groupVersion": "v1"}),
        get("/apis/apps", want={"kind": "APIGroup", "preferredVersion.version": "v1"}),
        get("/apis/apps/v1", want={"groupVersion": "apps/v1"}),
        get("/apis/none.example", 404),
        get("/openapi/v3", want={"paths.api/v1.serverRelativeURL": "?"}),
        get(
            "/apis",
            accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            want={"kind": "APIGroupDiscoveryList"},
        ),
    ],
}
