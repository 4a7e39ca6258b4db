"""Built-in kinds: their defaults, what they refuse, their subresources."""

from __future__ import annotations

from tests.local.apiserver.requests.asks import (
    DEPLOYMENTS,
    JOBS,
    LEASES,
    MERGE,
    PODS,
    SECRETS,
    SERVICES,
    STRATEGIC,
    WORDS,
    Ask,
    delete,
    deployment,
    get,
    job,
    patch,
    pod,
    pod_spec,
    post,
    service,
)

SCENARIOS: dict[str, list[Ask]] = {
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
                "spec.enableServiceLinks": True,
            },
        ),
        post(PODS, {**pod("two"), "spec": {"containers": []}}, 422, want={"details.causes.0.field": "spec.containers"}),
        post(PODS, {**pod("two"), "spec": {"containers": [{"name": "a"}]}}, 422),
        patch(
            STRATEGIC,
            f"{PODS}/one",
            {"spec": {"restartPolicy": "Never"}},
            422,
            want={"details.causes.0.field": "spec"},
            differs=WORDS,
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
            differs=("details.causes", "message"),  # a real server goes on to what follows from it,
        ),
        post(DEPLOYMENTS, deployment("two", replicas="many"), 400, differs=WORDS),
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
            differs=WORDS,
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
        post(SERVICES, service("1good")),
        post(SERVICES, service("bad.name"), 422, want={"details.causes.0.field": "metadata.name"}),
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
}
