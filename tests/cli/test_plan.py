"""`kaito plan` on manifests: what fits, what does not, what is wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kaito.api import crds
from tests.support.cluster import Cluster

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


def test_what_would_be_refused_is_planned_all_the_same_and_ends_with_2() -> None:
    image = "ghcr.io/REPLACE_ME/adapter:1"
    found = yaml.safe_load(EXAMPLE.read_text())
    found["tuning"]["output"]["image"] = image
    done = plan(yaml.safe_dump(found))
    assert done.returncode == 2
    assert "largest batch" in done.stdout
    assert f'tuning.output.image: "{image}" is not an image reference' in done.stderr
    assert "lower case" in done.stderr


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


def test_the_suites_own_defaults_may_be_named_without_being_there() -> None:
    text = EXAMPLE.read_text().replace("method: qlora", "method: qlora\n  config: qlora-params-template")
    assert "ConfigMap" not in plan(text).stdout


def test_an_unknown_model_offline_ends_with_1_and_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = EXAMPLE.read_text().replace("phi-3-mini-128k-instruct", "someone/some-model")
    done = plan(text, "--offline")
    assert done.returncode == 1
    assert "--model-folder" in done.stderr


def test_ones_own_types_bring_prices_and_errors_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "types.yaml"
    row = "- {name: my.box, cloud: azure, gpu_model: NVIDIA L40S, gpu_count: 2, gpu_memory_mib: 45776"
    file.write_text(row + ", compute_capability: 8.9, price_usd_hour: 0.25}\n")
    shown = plan(EXAMPLE.read_text(), "--instance-types", str(file)).stdout
    assert "the cheapest first" in shown
    assert "$0.25/h" in shown
    file.write_text(row + ", price_usd_hour: cheap}\n")
    refused = plan(EXAMPLE.read_text(), "--instance-types", str(file))
    assert refused.returncode == 2
    assert "line 1" in refused.stderr


SERVING = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: llama}
resource:
  instanceType: Standard_ND96isr_H100_v5
  labelSelector: {matchLabels: {apps: llama}}
inference:
  preset: {name: llama-3.3-70b-instruct}
"""


def test_the_text_has_the_split_the_cost_and_the_cheapest_first() -> None:
    done = plan(SERVING)
    assert done.returncode == 0, done.stderr
    assert "serving (vllm) llama-3.3-70b-instruct on Standard_ND96isr_H100_v5 (8 x NVIDIA H100)" in done.stdout
    assert "[WWW" in done.stdout
    assert "tensor 8" in done.stdout
    assert "$98.32 an hour (eastus, list price of 2026-06-18)" in done.stdout
    assert "is gated: name a Secret with HF_TOKEN" in done.stdout
    prices = [float(word.strip("$").removesuffix("/h")) for word in done.stdout.split() if word.endswith("/h")]
    assert prices == sorted(prices)
    assert len(prices) == 5


def test_another_region_has_other_prices_and_an_unknown_one_is_refused() -> None:
    (there,) = json.loads(plan(SERVING, "-o", "json", "--region", "westeurope").stdout)
    assert there["price"]["region"] == "westeurope"
    refused = plan(SERVING, "--region", "westeurop")
    assert refused.returncode == 2
    assert "westeurope" in refused.stderr


def test_training_data_of_a_known_length_have_a_time_and_a_price() -> None:
    (found,) = json.loads(plan(EXAMPLE.read_text(), "--tokens", "1000000", "-o", "json").stdout)
    training = found["tuning"]
    assert training["epochs"] == 3
    assert training["seconds"] == pytest.approx(3 * training["secondsPerMillionTokens"])
    assert training["usd"] == pytest.approx(found["usdPerHour"] * training["seconds"] / 3600)
    assert "for 3 epochs" in plan(EXAMPLE.read_text(), "--tokens", "1000000").stdout


def test_yaml_is_the_same_as_json() -> None:
    assert yaml.safe_load(plan(SERVING, "-o", "yaml").stdout) == json.loads(plan(SERVING, "-o", "json").stdout)


def test_a_template_says_itself_what_it_needs() -> None:
    text = SERVING.replace("  preset: {name: llama-3.3-70b-instruct}", "  template: {spec: {containers: []}}")
    done = plan(text)
    assert done.returncode == 0, done.stderr
    assert "nothing to estimate" in done.stdout
    assert "$98.32 an hour" in done.stdout


def node(name: str, product: str = "NVIDIA-A100-SXM4-80GB", ready: str = "True") -> str:
    return f"""
---
apiVersion: v1
kind: Node
metadata:
  name: {name}
  labels:
    apps: llama
    kubernetes.io/arch: amd64
    nvidia.com/gpu.product: {product}
    nvidia.com/gpu.count: "4"
    nvidia.com/gpu.memory: "81920"
    nvidia.com/gpu.compute.major: "8"
    nvidia.com/gpu.compute.minor: "0"
status:
  allocatable: {{nvidia.com/gpu: "4"}}
  conditions: [{{type: Ready, status: "{ready}"}}]
"""


OWN_NODES = SERVING.replace("  instanceType: Standard_ND96isr_H100_v5\n", "")


def test_nodes_that_exist_are_planned_on() -> None:
    (found,) = json.loads(plan(OWN_NODES + node("a"), "-o", "json").stdout)
    assert found["fits"]
    assert (found["nodes"], found["existingNodes"]) == (1, ["a"])
    assert found["estimate"]["tensor_parallel"] == 4
    deepseek = plan(OWN_NODES.replace("llama-3.3-70b-instruct", "deepseek-v3-0324") + node("a") + node("b"))
    assert deepseek.returncode == 3
    assert "3 nodes are needed, and 2 that are ready carry the labels" in deepseek.stdout


@pytest.mark.parametrize(
    ("nodes", "code", "says"),
    [
        pytest.param("", 1, "--cluster", id="no nodes known"),
        pytest.param(node("a", ready="False"), 3, "No ready node carries apps=llama", id="none is ready"),
        pytest.param(node("a") + node("b", "NVIDIA-H100-80GB-HBM3"), 2, "different GPUs", id="of two kinds"),
    ],
)
def test_nodes_that_cannot_be_planned_on(nodes: str, code: int, says: str) -> None:
    done = plan(OWN_NODES + nodes)
    assert done.returncode == code
    assert says in done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("plan") / "home")
    found.start()
    found.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crds.workspace_crd())
    made = next(iter(yaml.safe_load_all(node("gpu-0").removeprefix("\n---"))))
    made["metadata"]["labels"] |= {
        "node.kubernetes.io/instance-type": "Standard_NC96ads_A100_v4",
        "topology.kubernetes.io/region": "westeurope",
    }
    status = {"status": made.pop("status")}
    assert found.request("POST", "/api/v1/nodes", made).code == 201
    merge = {"Content-Type": "application/merge-patch+json"}
    assert found.request("PATCH", "/api/v1/nodes/gpu-0/status", json.dumps(status), merge).code == 200
    config = {"metadata": {"name": "mine"}, "data": {"inference_config.yaml": "vllm: {max-model-len: 65536}"}}
    assert found.request("POST", "/api/v1/namespaces/default/configmaps", config).code == 201
    yield found
    found.stop()


def test_with_a_cluster_its_nodes_and_config_maps_are_read(cluster: Cluster) -> None:
    options = ("--kubeconfig", str(cluster.kubeconfig), "-o", "json")
    (own,) = json.loads(plan(OWN_NODES, *options).stdout)
    assert own["existingNodes"] == ["gpu-0"]
    typed = SERVING.replace("ND96isr_H100_v5", "NC96ads_A100_v4") + "  config: mine\n"
    (found,) = json.loads(plan(typed, *options).stdout)
    assert found["existingNodes"] == ["gpu-0"]
    assert found["estimate"]["context"] == 65536
    assert found["price"]["region"] == "westeurope"
    missing = plan(typed.replace("mine", "other"), *options[:2])
    assert "neither among the manifests nor in the cluster" in missing.stdout
