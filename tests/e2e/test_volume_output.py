"""Tuning into a folder of this machine, then served from there: no registry and no Secret has a part in it."""

import json
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.e2e.machine import Machine, tuning

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]


def test_the_adapter_of_a_volume_is_served(machine: Machine, tmp_path: Path) -> None:
    results = tmp_path / "results"
    manifest = yaml.safe_load(tuning("into-volume", machine.registry))
    manifest["tuning"]["output"] = {"volumeSource": {"hostPath": {"path": str(results), "type": "DirectoryOrCreate"}}}
    machine.apply(tmp_path, yaml.safe_dump(manifest))
    machine.kaito("wait", "into-volume", "--timeout", "240", timeout=260)
    assert (results / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((results / "manifest.json").read_text())["files"]
    service = json.loads(machine.kubectl("get", "service", "into-volume", "-o", "json").stdout)
    url = f"http://{service['spec']['clusterIP']}/v1/models"
    with urllib.request.urlopen(url, timeout=20) as answer:
        names = {model["id"] for model in json.load(answer)["data"]}
    assert "into-volume" in names
