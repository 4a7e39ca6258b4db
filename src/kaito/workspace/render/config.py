"""The ConfigMap `<ws>-config`: the config that the pod reads, resolved from defaults and what the user gave."""

from __future__ import annotations

from typing import Any

from kaito.api.workspace import Workspace
from kaito.workspace.names import child_metadata, config_key, config_map_name


def render_config(workspace: Workspace, text: str) -> dict[str, Any]:
    return {
        "metadata": child_metadata(workspace, config_map_name(workspace)),
        "data": {config_key(workspace): text},
    }
