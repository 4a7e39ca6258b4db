"""Create, get, list, update, delete: what holds for every kind."""

from __future__ import annotations

from tests.local.apiserver.requests.asks import (
    CM,
    DEPLOYMENTS,
    MERGE,
    STALE,
    WORDS,
    Ask,
    cm,
    delete,
    deployment,
    get,
    patch,
    pod,
    post,
    put,
)

VERSION_FIELDS = (
    *("compiler", "emulationMajor", "emulationMinor", "gitCommit", "gitTreeState", "gitVersion", "goVersion"),
    *("buildDate", "minCompatibilityMajor", "minCompatibilityMinor", "minor", "platform"),
)

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
            differs=("code", "reason"),
            real_code=500,
        ),
        post(CM, pod(), 400, want={"reason": "BadRequest"}),
        post(CM, "{", 400, want={"reason": "BadRequest"}, differs=WORDS),
        post(CM, "[]", 400, want={"reason": "BadRequest"}, differs=WORDS),
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
        get("/apis/none.example/v1/things", 404, want={"text": "404 page not found\n"}),
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
        put(
            f"{CM}/one",
            cm(uid="00000000-0000-0000-0000-000000000000"),
            409,
            want={"reason": "Conflict"},
            differs=WORDS,
        ),
    ],
    "generate-name": [
        post(
            CM,
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}},
            want={"metadata.generateName": "run-"},
            differs=("metadata.name",),
        ),
        get(CM, want={"items.0.metadata.generateName": "run-"}, differs=("items.*.metadata.name",)),
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
        get(f"{CM}?continue=nonsense", 400, differs=WORDS),
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
            differs=("details.causes", "message"),  # a real server finds it twice, and says so twice
        ),
        patch(MERGE, f"{CM}/one", {"metadata": {"finalizers": None}}, want={"metadata.name": "one"}),
        get(f"{CM}/one", 404),
        post(CM, cm("two", finalizers=["no"]), 422, want={"reason": "Invalid"}),
    ],
    "foreground": [
        post(CM, cm()),
        delete(f"{CM}/one", {"propagationPolicy": "Foreground"}, want={"metadata.finalizers": ["foregroundDeletion"]}),
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
            differs=("metadata.managedFields", "status.reason"),
        ),
        post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
            want={"kind": "SelfSubjectReview"},
            differs=("status.userInfo", "metadata.creationTimestamp"),
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
        get(f"{CM}/aa", 406, accept="text/html", want={"reason": "NotAcceptable"}, differs=WORDS),
    ],
    "documents": [
        Ask("GET", "/version", want={"major": "1"}, differs=VERSION_FIELDS),
        get("/api", want={"kind": "APIVersions", "versions": ["v1"]}, differs=("serverAddressByClientCIDRs",)),
        get("/apis", want={"kind": "APIGroupList"}, differs=("groups",)),  # this server has fewer
        get("/api/v1", want={"kind": "APIResourceList", "groupVersion": "v1"}, differs=("resources",)),
        get("/apis/apps", want={"kind": "APIGroup", "preferredVersion.version": "v1"}),
        get("/apis/apps/v1", want={"groupVersion": "apps/v1"}),
        get("/apis/none.example", 404),
        get("/openapi/v3", want={"paths.api/v1.serverRelativeURL": "?"}, differs=("paths",)),
        get(
            "/apis",
            accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            want={"kind": "APIGroupDiscoveryList"},
            differs=("items",),
        ),
    ],
}
