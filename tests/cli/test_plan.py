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
