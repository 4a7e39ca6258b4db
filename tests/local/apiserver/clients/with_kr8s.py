"""kr8s: create, list, watch, patch and delete, as anybody writes it for any cluster.

Prints what it saw, one JSON document a line. Takes its cluster from KUBECONFIG.
"""

from __future__ import annotations

import json
import sys

import kr8s
from kr8s.objects import ConfigMap, new_class

Widget = new_class("Widget", "example.com/v1", namespaced=True)


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


def config_maps() -> None:
    one = ConfigMap({"metadata": {"name": "one", "labels": {"who": "kr8s"}}, "data": {"a": "1"}})
    one.create()
    say("created", one.name, dict(one.data))
    say("listed", [found.name for found in kr8s.get("configmaps", label_selector="who=kr8s")])
    one.patch({"data": {"b": "2"}})
    say("patched", dict(one.data))
    one.label(tier="web")
    say("labelled", dict(one.labels))
    for kind, found in kr8s.watch("configmaps", label_selector="who=kr8s"):
        say("watched", kind, dict(found.data))
        if kind == "DELETED":
            break
        one.delete()
    say("exists", one.exists())


def custom_objects() -> None:
    widget = Widget({"metadata": {"name": "one"}, "spec": {"size": 4, "replicas": 1}})
    widget.create()
    say("created", dict(widget.spec))
    say("listed", [found.name for found in kr8s.get("widgets.example.com")])
    widget.patch({"spec": {"size": 5}})
    widget.patch({"status": {"phase": "Up"}}, subresource="status")
    widget.refresh()
    say("patched", dict(widget.spec), dict(widget.status))
    widget.delete()
    say("exists", widget.exists())


def main() -> int:
    say("version", kr8s.api().version()["major"])
    config_maps()
    custom_objects()
    return 0


if __name__ == "__main__":
    sys.exit(main())
