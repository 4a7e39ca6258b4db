"""Instance types by name: what GPUs a machine of that type has. Data: `data/instances.csv`."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from functools import cache
from importlib import resources

import msgspec


class InstanceType(msgspec.Struct, frozen=True):
    """One instance type of a cloud. Unknown figures are None, never a guess."""

    cloud: str
    name: str
    gpu_model: str
    gpu_count: int
    gpu_memory_mib: int
    """Memory of one GPU, in MiB."""
    resource: str
    """The name under which the device plugin offers the GPUs, such as `nvidia.com/gpu`."""
    compute_capability: float | None
    vcpu: int | None
    memory_gib: float | None
    local_nvme: bool
    architecture: str


@cache
def instance_types() -> Mapping[str, InstanceType]:
    """All known types, by lower-case name."""
    text = resources.files("kaito.catalog").joinpath("data/instances.csv").read_text()
    return {row["name"].lower(): _parse(row) for row in csv.DictReader(text.splitlines())}


def find_instance_type(name: str) -> InstanceType | None:
    """The type of that name, whatever its case."""
    return instance_types().get(name.lower())


def nearest_instance_types(name: str, count: int = 3) -> list[str]:
    """Known names that look like `name`, the most alike first."""
    known = instance_types()
    found = difflib.get_close_matches(name.lower(), known, n=count, cutoff=0.6)
    return [known[key].name for key in found]


def _parse(row: Mapping[str, str]) -> InstanceType:
    return InstanceType(
        cloud=row["cloud"],
        name=row["name"],
        gpu_model=row["gpu_model"],
        gpu_count=int(row["gpu_count"]),
        gpu_memory_mib=int(row["gpu_memory_mib"]),
        resource=row["resource"],
        compute_capability=float(row["compute_capability"]) if row["compute_capability"] else None,
        vcpu=int(row["vcpu"]) if row["vcpu"] else None,
        memory_gib=float(row["memory_gib"]) if row["memory_gib"] else None,
        local_nvme=row["local_nvme"] == "yes",
        architecture=row["architecture"],
    )
