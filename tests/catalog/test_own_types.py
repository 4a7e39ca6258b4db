"""A file of one's own instance types: what it may hold, and what is said of a wrong one."""

from pathlib import Path

import pytest

from kaito.catalog.gpus import tflops_16bit, what_it_runs
from kaito.catalog.instances import InstanceTypesInvalid, find_instance_type, read_instance_types

WHOLE = """\
- name: My.Box
  gpu_model: NVIDIA L40S
  gpu_count: 2
  gpu_memory_mib: 45776
  nvlink: no
  price_usd_hour: 2.5
"""


def test_yaml_and_csv_say_the_same(tmp_path: Path) -> None:
    as_yaml, as_csv = tmp_path / "types.yaml", tmp_path / "types.csv"
    as_yaml.write_text(WHOLE)
    as_csv.write_text(
        "name,gpu_model,gpu_count,gpu_memory_mib,nvlink,price_usd_hour\nMy.Box,NVIDIA L40S,2,45776,no,2.5\n"
    )
    found = read_instance_types(as_yaml)
    assert found == read_instance_types(as_csv)
    box = found["my.box"]
    assert (box.gpu_count, box.nvlink, box.price_usd_hour, box.resource) == (2, False, 2.5, "nvidia.com/gpu")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(WHOLE.replace("gpu_count: 2", "gpu_count: two"), r"line 1: .*'two'.*plain number", id="no number"),
        pytest.param(
            WHOLE + "- name: second\n", "line 7: gpu_model, gpu_count, gpu_memory_mib is missing", id="missing"
        ),
        pytest.param(
            WHOLE.replace("nvlink", "nvlinks"), "nvlinks is not a field; did you mean nvlink", id="unknown field"
        ),
        pytest.param(WHOLE.replace("gpu_count: 2", "gpu_count: -2"), "cannot be negative", id="negative"),
        pytest.param("name: x\n", "a list of instance types is expected", id="no list"),
        pytest.param("- just words\n", "line 1: an instance type is a mapping", id="no mapping"),
        pytest.param("- [\n", "is not YAML", id="no yaml"),
    ],
)
def test_a_wrong_file_names_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "types.yaml"
    file.write_text(text)
    with pytest.raises(InstanceTypesInvalid, match=says):
        read_instance_types(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InstanceTypesInvalid, match="cannot be read"):
        read_instance_types(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("name", "runs", "not_runs"),
    [
        pytest.param("Standard_NC6s_v3", {"transformers", "qlora (NF4)"}, {"vllm", "bfloat16", "fp8"}, id="V100"),
        pytest.param("Standard_NC4as_T4_v3", {"vllm", "8-bit base"}, {"bfloat16"}, id="T4"),
        pytest.param("Standard_NC24ads_A100_v4", {"bfloat16"}, {"fp8"}, id="A100"),
        pytest.param("Standard_ND96isr_H100_v5", {"fp8"}, set(), id="H100"),
        pytest.param("Standard_NV6", {"transformers"}, {"vllm", "qlora (NF4)"}, id="M60"),
    ],
)
def test_what_older_gpus_run(name: str, runs: set[str], not_runs: set[str]) -> None:
    type_ = find_instance_type(name)
    assert type_ is not None
    found = set(what_it_runs(type_))
    assert runs <= found
    assert not not_runs & found


def test_memory_is_what_programs_can_use_and_rates_are_known_or_not() -> None:
    l4 = find_instance_type("g6.xlarge")
    assert l4 is not None
    assert l4.gpu_memory_mib == 22888
    assert tflops_16bit("NVIDIA A100") == 312
    assert tflops_16bit("NVIDIA K80") is None
