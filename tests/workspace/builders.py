"""Workspaces and what belongs to them, for tests: valid by default, changed where a test says so."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from kaito.api.workspace import Workspace
from kaito.workspace.settings import Settings

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings(node_mode="gpu-provisioner", runtime_image="kaito/runtime:test")

TUNING: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1alpha1",
    "kind": "Workspace",
    "metadata": {"name": "tuned", "namespace": "default", "uid": "u-1", "generation": 1, "resourceVersion": "1"},
    "resource": {
        "instanceType": "Standard_NC6s_v3",
        "count": 1,
        "labelSelector": {"matchLabels": {"app": "tuning-phi-3"}},
    },
    "tuning": {
        "preset": {"name": "tiny-phi-3"},
        "method": "qlora",
        "input": {"urls": ["https://example.com/data.parquet"]},
        "output": {"image": "registry.example.com/team/adapter:0.0.1", "imagePushSecret": "push"},
    },
}
INFERENCE: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "served", "namespace": "default", "uid": "u-2", "generation": 1, "resourceVersion": "1"},
    "resource": {
        "instanceType": "Standard_NC6s_v3",
        "count": 1,
        "labelSelector": {"matchLabels": {"app": "phi"}},
    },
    "inference": {"preset": {"name": "tiny-phi-3"}},
}


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with values set at dotted paths; None removes. A `/` in place of a dot keeps dots in keys."""
    result = copy.deepcopy(dict(base))
    for path, value in changes.items():
        *parents, last = path.split(".") if "/" not in path else path.split("|")
        place = result
        for key in parents:
            place = place.setdefault(key, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)
    return result


def tuning(changes: Mapping[str, Any] | None = None) -> Workspace:
    return decode(changed(TUNING, changes or {}))


def inference(changes: Mapping[str, Any] | None = None) -> Workspace:
    return decode(changed(INFERENCE, changes or {}))


def annotated(base: Mapping[str, Any], **annotations: str) -> dict[str, Any]:
    """`base` with annotations of `kaito.sh/`, underscores in the names standing for dashes."""
    named = {f"kaito.sh/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return changed(base, {"metadata.annotations": named})


def decode(body: Mapping[str, Any]) -> Workspace:
    return msgspec.convert(body, Workspace)
