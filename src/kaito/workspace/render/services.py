"""The Services in front of a server: one for callers, and a headless one by which the pods of several nodes meet."""

from __future__ import annotations

from typing import Any

from kaito.api.workspace import ANNOTATION_ENABLE_LB, Workspace
from kaito.workspace.names import HTTP_PORT, ROLE_SERVE, child_metadata, headless_name, pod_labels

TORCH_PORT = 29500


def render_service(workspace: Workspace, *, leader_only: bool = False) -> dict[str, Any]:
    """80 to the HTTP server and 29500 for torch; a LoadBalancer when the annotation says so, then with HTTP alone."""
    is_public = workspace.metadata.annotations.get(ANNOTATION_ENABLE_LB) == "True"
    ports = [_port("http", 80, HTTP_PORT)] + ([] if is_public else [_port("torch", TORCH_PORT, TORCH_PORT)])
    selector = pod_labels(workspace, ROLE_SERVE)
    if leader_only:
        selector["statefulset.kubernetes.io/pod-name"] = f"{workspace.metadata.name}-0"
    spec = {"type": "LoadBalancer" if is_public else "ClusterIP", "ports": ports, "selector": selector}
    return {"metadata": child_metadata(workspace, workspace.metadata.name), "spec": spec}


def render_headless(workspace: Workspace) -> dict[str, Any]:
    """Names for the pods of a server on several nodes, before they are ready: that is how they find each other."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "ports": [_port("torch", TORCH_PORT, TORCH_PORT)],
        "selector": pod_labels(workspace, ROLE_SERVE),
    }
    return {"metadata": child_metadata(workspace, headless_name(workspace)), "spec": spec}


def _port(name: str, port: int, target: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}
