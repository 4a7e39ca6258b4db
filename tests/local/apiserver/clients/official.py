"""The official Python client: create, list, watch, patch, apply and delete, as anybody writes it for any cluster.

Prints what it saw, one JSON document a line. Takes its cluster from KUBECONFIG.
"""

from __future__ import annotations

import json
import sys

from kubernetes import client, config, dynamic, watch

NAMESPACE = "default"


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


def config_maps() -> None:
    api = client.CoreV1Api()
    made = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one", labels={"who": "official"}), data={"a": "1"})
    created = api.create_namespaced_config_map(NAMESPACE, made)
    say("created", created.metadata.name, created.data)
    listed = api.list_namespaced_config_map(NAMESPACE, label_selector="who=official")
    say("listed", [item.metadata.name for item in listed.items])
    patched = api.patch_namespaced_config_map("one", NAMESPACE, {"data": {"b": "2"}})
    say("patched", patched.data)
    api.delete_namespaced_config_map("one", NAMESPACE)
    stream = watch.Watch().stream(
        api.list_namespaced_config_map,
        NAMESPACE,
        label_selector="who=official",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=60,
    )
    for event in stream:
        say("watched", event["type"], event["object"].data)
        if event["type"] == "DELETED":
            break
    try:
        api.read_namespaced_config_map("one", NAMESPACE)
    except client.ApiException as error:
        say("refused", error.status, error.reason)


def custom_objects() -> None:
    api = client.CustomObjectsApi()
    where = ("example.com", "v1", NAMESPACE, "widgets")
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}, "spec": {"size": 4}}
    say("created", api.create_namespaced_custom_object(*where, body)["spec"])
    say("listed", [item["metadata"]["name"] for item in api.list_namespaced_custom_object(*where)["items"]])
    say("patched", api.patch_namespaced_custom_object(*where, "one", {"spec": {"size": 5}})["spec"])
    status = api.patch_namespaced_custom_object_status(*where, "one", {"status": {"phase": "Up"}})
    say("status", status["status"])
    say("deleted", api.delete_namespaced_custom_object(*where, "one")["status"])


def dynamic_client() -> None:
    """Found by discovery, applied by the server."""
    widgets = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="example.com/v1", kind="Widget")
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "two"}, "spec": {"color": "red"}}
    applied = widgets.server_side_apply(body=body, name="two", namespace=NAMESPACE, field_manager="official")
    say("applied", applied.spec.to_dict())
    say("listed", [item.metadata.name for item in widgets.get(namespace=NAMESPACE).items])
    widgets.delete(name="two", namespace=NAMESPACE)


def main() -> int:
    config.load_kube_config()
    config_maps()
    custom_objects()
    dynamic_client()
    return 0


if __name__ == "__main__":
    sys.exit(main())
