"""The figures of GPUs agree with those of the instance types, and each row says where they come from."""

import csv
from importlib import resources

import pytest

from kaito.catalog.gpus import find_gpu, gpu_of_product
from kaito.catalog.instances import instance_types


def test_instance_types_and_gpus_say_the_same() -> None:
    for type_ in instance_types().values():
        gpu = find_gpu(type_.gpu_model, type_.gpu_memory_mib)
        assert gpu is not None, type_.name
        assert (gpu.total_mib, gpu.compute_capability) == (type_.gpu_memory_mib, type_.compute_capability), type_.name


def test_usable_memory_is_less_than_the_number_on_the_box_for_nvidia() -> None:
    rows = list(csv.DictReader(resources.files("kaito.catalog").joinpath("data/gpus.csv").read_text().splitlines()))
    assert all(row["source"] for row in rows)
    assert all(int(row["total_mib"]) <= int(row["memory_gib"]) * 1024 for row in rows)
    assert all(row["compute_capability"] for row in rows if row["gpu_model"].startswith("NVIDIA"))


@pytest.mark.parametrize(
    ("product", "mib", "model"),
    [
        pytest.param("NVIDIA-A100-SXM4-80GB", 81920, "NVIDIA A100", id="A100"),
        pytest.param("Tesla-T4", 15360, "NVIDIA T4", id="an old driver's name"),
        pytest.param("NVIDIA-H100-NVL", 95830, "NVIDIA H100 NVL", id="the longest name counts"),
        pytest.param("NVIDIA-A10G", 23028, "NVIDIA A10G", id="not A10"),
        pytest.param("NVIDIA-GeForce-RTX-4090", 24564, None, id="not in the catalogue"),
        pytest.param("", 0, None, id="no label"),
    ],
)
def test_the_drivers_product_names_lead_to_a_gpu(product: str, mib: int, model: str | None) -> None:
    found = gpu_of_product(product, mib)
    assert (found.model if found else None) == model
