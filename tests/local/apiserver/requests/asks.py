"""One request of the suite, and the objects that its scenarios send."""

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
    """One request. `want` is a part of the answer's JSON: dotted paths -> values; None means absent.

    The answer of a watch is `{"events": [...]}`, one that is no JSON `{"text": ...}`. `keep` names parts of the answer,
    which later paths and bodies may use as `{name}`. `differs` are the parts that this server answers in its own way,
    `*` being any element; what is not named is compared with a real server's answer, field by field.
    """

    method: str
    path: str
    body: Any = None
    code: int = 200
    want: Json = field(default_factory=dict)
    media: str = "application/json"
    accept: str = "application/json"
    keep: Json = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    real_code: int = 0
    """The code of a real server, where this one's is on purpose another."""


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
WORDS = ("message", "details.causes.*.message")
"""Left out where a message tells of the inside of a server written in Go."""
