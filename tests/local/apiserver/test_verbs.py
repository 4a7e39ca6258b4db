"""Create, get, list, update, patch, delete over HTTP, with the answers that Kubernetes gives."""

from __future__ import annotations

from typing import Any

from tests.support.cluster import Cluster

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str = "one", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_an_object_goes_through_its_life(cluster: Cluster) -> None:
    created = cluster.request("POST", CONFIG_MAPS, config_map(a="1"))
    assert created.code == 201
    first = created.json()
    assert first["metadata"]["uid"]
    assert first["metadata"]["namespace"] == "default"
    got = cluster.request("GET", f"{CONFIG_MAPS}/one").json()
    assert got == first
    got["data"]["a"] = "2"
    updated = cluster.request("PUT", f"{CONFIG_MAPS}/one", got).json()
    assert int(updated["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    stale = cluster.request("PUT", f"{CONFIG_MAPS}/one", got)
    assert stale.code == 409
    assert stale.json()["message"] == (
        'Operation cannot be fulfilled on configmaps "one": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    deleted = cluster.request("DELETE", f"{CONFIG_MAPS}/one")
    assert deleted.json()["details"] == {"name": "one", "kind": "configmaps", "uid": first["metadata"]["uid"]}
    assert cluster.request("GET", f"{CONFIG_MAPS}/one").code == 404
