"""A server from the user's own pod template: theirs, with our labels, a place to run, and nothing else changed."""

from __future__ import annotations

import copy
from typing import Any

from kaito.api.workspace import Workspace
from kaito.workspace.names import ROLE_SERVE, pod_labels
from kaito.workspace.render.pods import Placement, tolerations
from kaito.workspace.render.server import render_workload


def render_template(
    workspace: Workspace, template: dict[str, Any], placement: Placement, nodes: int, *, beside: bool
) -> dict[str, Any]:
    """The Deployment (StatefulSet on several nodes) of `inference.template`."""
    metadata, spec = dict(template.get("metadata") or {}), copy.deepcopy(template.get("spec") or {})
    labels = {**(metadata.get("labels") or {}), **pod_labels(workspace, ROLE_SERVE)}
    spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **placement.node_selector}
    given = spec.get("tolerations") or []
    spec["tolerations"] = [*given, *(t for t in tolerations(placement) if t not in given)]
    annotations = dict(metadata.get("annotations") or {})
    ours = {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}
    return render_workload(workspace, ours, nodes, beside=beside)
