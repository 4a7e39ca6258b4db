"""What may and may not change in a Workspace that exists."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.api.transitions import validate_update
from tests.workspace.builders import INFERENCE, TUNING, changed, decode

PARTITION = {"mode": "mig", "profile": "1g.10gb"}
TEMPLATE = {"spec": {"containers": []}}

ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": (INFERENCE, {}),
    "adapters": (INFERENCE, {"inference.adapters": [{"source": {"name": "a", "image": "r.example/a:1"}}]}),
    "config": (INFERENCE, {"inference.config": "mine"}),
    "labels": (INFERENCE, {"metadata.labels": {"a": "b"}}),
    "annotations": (INFERENCE, {"metadata.annotations": {"kaito.sh/enablelb": "True"}}),
    "access secret": (INFERENCE, {"inference.preset.presetOptions": {"modelAccessSecret": "s"}}),
    "the preset's case": (INFERENCE, {"inference.preset.name": "Tiny-Phi-3"}),
    "tuning input": (TUNING, {"tuning.input.urls": ["https://b.example/x"]}),
    "tuning output": (TUNING, {"tuning.output.image": "r.example/b:2"}),
    "push secret": (TUNING, {"tuning.output.imagePushSecret": "other"}),
    "tuning config": (TUNING, {"tuning.config": "mine"}),
    "the method's case": (TUNING, {"tuning.method": "QLORA"}),
    "name of the input, once": (TUNING, {"tuning.input.name": "dolly"}),
}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "inference to tuning": (INFERENCE, {"inference": None, "tuning": TUNING["tuning"]}, "inference"),
    "tuning to inference": (TUNING, {"tuning": None, "inference": INFERENCE["inference"]}, "tuning"),
    "tuning added": (INFERENCE, {"tuning": TUNING["tuning"]}, "tuning"),
    "instance type": (INFERENCE, {"resource.instanceType": "Standard_NC24ads_A100_v4"}, "resource.instanceType"),
    "instance type removed": (INFERENCE, {"resource.instanceType": None}, "resource.instanceType"),
    "count": (INFERENCE, {"resource.count": 2}, "resource.count"),
    "selector": (INFERENCE, {"resource.labelSelector.matchLabels": {"app": "x"}}, "resource.labelSelector"),
    "partition": (INFERENCE, {"resource.partition": PARTITION}, "resource.partition"),
    "preset": (INFERENCE, {"inference.preset.name": "phi-4"}, "inference.preset.name"),
    "preset to template": (INFERENCE, {"inference": {"template": TEMPLATE}}, "inference.template"),
    "tuning preset": (TUNING, {"tuning.preset.name": "phi-4"}, "tuning.preset.name"),
    "tuning preset removed": (TUNING, {"tuning.preset": None}, "tuning.preset"),
    "method": (TUNING, {"tuning.method": "lora"}, "tuning.method"),
}


@pytest.mark.parametrize(("base", "change"), ALLOWED.values(), ids=ALLOWED)
def test_allowed(base: dict[str, Any], change: dict[str, Any]) -> None:
    assert validate_update(decode(base), decode(changed(base, change)), "gpu-provisioner") == []


@pytest.mark.parametrize(("base", "change", "field"), REFUSED.values(), ids=REFUSED)
def test_refused(base: dict[str, Any], change: dict[str, Any], field: str) -> None:
    found = validate_update(decode(base), decode(changed(base, change)), "gpu-provisioner")
    assert field in [fault.field for fault in found]
    assert all(fault.hint and fault.reason == "Immutable" for fault in found)


def test_a_name_of_the_input_stays() -> None:
    named = changed(TUNING, {"tuning.input.name": "dolly"})
    found = validate_update(decode(named), decode(changed(named, {"tuning.input.name": "other"})), "gpu-provisioner")
    assert [fault.field for fault in found] == ["tuning.input.name"]


def test_an_instance_type_can_be_cleared_where_nodes_exist() -> None:
    new = decode(changed(INFERENCE, {"resource.instanceType": None}))
    assert validate_update(decode(INFERENCE), new, "byo") == []


def test_an_instance_type_can_be_set_once() -> None:
    old = decode(changed(INFERENCE, {"resource.instanceType": None}))
    assert validate_update(old, decode(INFERENCE), "gpu-provisioner") == []
