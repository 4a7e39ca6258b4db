"""`kaito plan` on manifests: what fits, what does not, what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml"


def plan(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kaito.cli.main", "plan", "-f", "-", *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def test_the_readme_manifest_fits_its_instance_type() -> None:
    done = plan(EXAMPLE.read_text(), "-o", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["instanceType"] == "Standard_NC6s_v3"
    assert found["estimate"]["fits"]
    assert found["estimate"]["per_gpu_bytes"] < found["estimate"]["usable_bytes"]


def test_what_does_not_fit_ends_with_3_and_names_what_does() -> None:
    done = plan(EXAMPLE.read_text().replace("phi-3-mini-128k-instruct", "llama-3.3-70b-instruct"))
    assert done.returncode == 3
    assert "does not fit" in done.stdout
    assert "Standard_NC24ads_A100_v4" in done.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(("phi-3-mini-128k-instruct", "phi-3-mini-128k"), "phi-3-mini-128k-instruct", id="unknown model"),
        pytest.param(("Standard_NC6s_v3", "Standard_XYZ"), "Standard_XYZ", id="unknown type"),
        pytest.param(("method: qlora", "method: full"), "full", id="unknown method"),
        pytest.param(("kind: Workspace", "kind: Pod"), "no Workspace", id="no workspace"),
    ],
)
def test_a_wrong_manifest_ends_with_2(change: tuple[str, str], says: str) -> None:
    done = plan(EXAMPLE.read_text().replace(*change))
    assert done.returncode == 2
    assert says in done.stderr


CONFIG_MAP = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: mine}
data:
  training_config.yaml: |
    training_config:
      QuantizationConfig: {load_in_4bit: true}
      LoraConfig: {r: 64}
      TrainingArguments: {per_device_train_batch_size: BATCH, max_length: LENGTH}
"""


def with_config(batch: int, length: int) -> str:
    text = EXAMPLE.read_text().replace("method: qlora", "method: qlora\n  config: mine")
    return text + CONFIG_MAP.replace("BATCH", str(batch)).replace("LENGTH", str(length))


def test_the_config_of_the_same_manifest_is_planned_with() -> None:
    (plain,) = json.loads(plan(EXAMPLE.read_text(), "-o", "json").stdout)
    (found,) = json.loads(plan(with_config(2, 4096), "-o", "json").stdout)
    assert found["estimate"]["per_gpu_bytes"] > plain["estimate"]["per_gpu_bytes"]
    assert "a batch of 2 x 4096" in found["estimate"]["why"]


def test_a_batch_that_is_too_large_is_a_warning_since_the_run_halves_it() -> None:
    done = plan(with_config(512, 1024))
    assert done.returncode == 0, done.stderr
    assert "a batch of 512 does not fit" in done.stdout


def test_a_config_that_is_not_there_is_a_warning() -> None:
    text = EXAMPLE.read_text().replace("method: qlora", "method: qlora\n  config: mine")
    assert "ConfigMap mine is not among the manifests" in plan(text).stdout


def test_an_unknown_model_offline_ends_with_1_and_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = EXAMPLE.read_text().replace("phi-3-mini-128k-instruct", "someone/some-model")
    done = plan(text, "--offline")
    assert done.returncode == 1
    assert "--model-folder" in done.stderr


def test_ones_own_types_bring_prices_and_errors_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "types.yaml"
    row = "- {name: my.box, cloud: azure, gpu_model: NVIDIA L40S, gpu_count: 2, gpu_memory_mib: 45776"
    file.write_text(row + ", compute_capability: 8.9, price_usd_hour: 2.5}\n")
    shown = plan(EXAMPLE.read_text(), "--instance-types", str(file)).stdout
    assert "the cheapest first" in shown
    assert "$2.50/h" in shown
    file.write_text(row + ", price_usd_hour: cheap}\n")
    refused = plan(EXAMPLE.read_text(), "--instance-types", str(file))
    assert refused.returncode == 2
    assert "line 1" in refused.stderr
