"""The gate before serving, on a real machine: published, not served, and served after all when its owner says so."""

import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.machine import Machine, tuning

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.xdist_group("e2e")]


def test_a_model_that_misses_its_gate_waits_for_a_word(machine: Machine, tmp_path: Path) -> None:
    manifest = yaml.safe_load(tuning("gated", machine.registry))
    manifest["metadata"]["annotations"] = {
        "kaito.sh/promote-if": "evalLoss < 0.000001",
        "kaito.sh/checkpoint-image": f"{machine.registry}/tuned/gated:checkpoint",
    }
    machine.apply(tmp_path, yaml.safe_dump(manifest))
    machine.until(
        lambda: machine.condition("gated", "InferenceReady").get("reason") == "NotPromoted",
        patience=300,
        what="the gate has been judged",
    )
    assert machine.condition("gated", "WorkspaceSucceeded")["status"] == "True"
    message = machine.condition("gated", "WorkspaceReady")["message"]
    assert "evalLoss is" in message
    assert "kubectl annotate workspace gated kaito.sh/promote-if-" in message
    status = machine.workspace("gated")["status"]["tuning"]
    assert float(status["evalLoss"]) < float(status["baseEvalLoss"])
    assert status["scoredOn"] == "eval"
    assert status["adapter"]["digest"].startswith("sha256:")
    assert not json.loads(machine.kubectl("get", "deployments", "-o", "json").stdout)["items"]
    machine.kubectl("annotate", "workspace", "gated", "kaito.sh/promote-if-")
    machine.kaito("wait", "gated", "--timeout", "240", timeout=260)
