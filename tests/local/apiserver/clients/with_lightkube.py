"""lightkube: create, list, watch, patch, apply and delete, as anybody writes it for any cluster.

Prints what it saw, one JSON document a line. Takes its cluster from KUBECONFIG.
"""

from __future__ import annotations

import json
import sys

from lightkube import ApiError, Client
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

Widget = create_namespaced_resource("example.com", "v1", "Widget", "widgets")


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


def config_maps(client: Client) -> None:
    labels = {"who": "lightkube"}
    one = client.create(ConfigMap(metadata=ObjectMeta(name="one", namespace="default", labels=labels), data={"a": "1"}))
    say("created", one.metadata.name, one.data)
    say("listed", [found.metadata.name for found in client.list(ConfigMap, namespace="default", labels=labels)])
    say("patched", client.patch(ConfigMap, "one", {"data": {"b": "2"}}, patch_type=PatchType.MERGE).data)
    for kind, found in client.watch(ConfigMap, namespace="default", labels=labels, server_timeout=60):
        say("watched", kind, found.data)
        if kind == "DELETED":
            break
        client.delete(ConfigMap, "one")
    try:
        client.get(ConfigMap, "one")
    except ApiError as error:
        say("refused", error.status.code, error.status.reason)


def custom_objects(client: Client) -> None:
    made = Widget(metadata=ObjectMeta(name="one", namespace="default"), spec={"size": 4})
    say("created", client.create(made).spec)
    applied = Widget(metadata=ObjectMeta(name="one", namespace="default"), spec={"color": "red"})
    say("applied", client.apply(applied, field_manager="lightkube").spec)
    say("status", client.patch(Widget.Status, "one", {"status": {"phase": "Up"}}, patch_type=PatchType.MERGE).status)
    say("listed", [found.metadata.name for found in client.list(Widget, namespace="default")])
    client.delete(Widget, "one")


def main() -> int:
    client = Client()
    config_maps(client)
    custom_objects(client)
    return 0


if __name__ == "__main__":
    sys.exit(main())
