"""Instance types by name: what GPUs a machine of that type has. Data: `data/instances.csv`, and a file of one's own.

The memory is what a program can use, not the number on the box: a "24 GB" L4 has 22888 MiB.
"""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec
import yaml

OWN_TYPES = "KAITO_INSTANCE_TYPES"
"""Environment variable: a CSV or YAML file of further instance types, which win over those of the catalogue."""
REQUIRED = ("name", "gpu_model", "gpu_count", "gpu_memory_mib")


class InstanceTypesInvalid(ValueError):
    """A file of instance types cannot be used. The text names file, line and what to do."""


class InstanceType(msgspec.Struct, frozen=True):
    """One instance type of a cloud. Unknown figures are None, never a guess."""

    cloud: str
    name: str
    gpu_model: str
    gpu_count: int
    gpu_memory_mib: int
    """Memory of one GPU that a program can use, in MiB."""
    resource: str
    """The name under which the device plugin offers the GPUs, such as `nvidia.com/gpu`."""
    compute_capability: float | None
    vcpu: int | None
    memory_gib: float | None
    local_nvme: bool
    architecture: str
    nvlink: bool | None = None
    """Whether the GPUs of a node are joined by NVLink; None where it is not known or there is only one."""
    price_usd_hour: float | None = None
    """What one node costs in US dollars an hour, by a file of one's own; list prices are in `catalog/prices.py`."""
    price_note: str = ""
    """Region, date and source of the price."""
    status: str = ""
    """"retired", "retiring", "unverified" or "attached": not offered as an alternative, and `note` says why."""
    note: str = ""
    """What a person who chooses this type should know."""


@cache
def instance_types() -> Mapping[str, InstanceType]:
    """All known types, by lower-case name. Raises InstanceTypesInvalid for a file of one's own that is wrong."""
    text = resources.files("kaito.catalog").joinpath("data/instances.csv").read_text()
    known = {row["name"].lower(): _parse(row) for row in csv.DictReader(text.splitlines())}
    own = os.environ.get(OWN_TYPES)
    return known | read_instance_types(Path(own)) if own else known


def read_instance_types(path: Path) -> dict[str, InstanceType]:
    """The types of a CSV file with a header, or of a YAML list, by lower-case name.

    Fields are those of InstanceType; name, gpu_model, gpu_count and gpu_memory_mib must be there. Raises
    InstanceTypesInvalid.
    """
    try:
        text = path.read_text()
        rows = _csv_rows(text) if path.suffix == ".csv" else _yaml_rows(text, path)
        return {row["name"].lower(): _parse(row) for row in _checked(rows, path)}
    except OSError as error:
        raise InstanceTypesInvalid(f"the instance types of {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InstanceTypesInvalid(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def find_instance_type(name: str) -> InstanceType | None:
    """The type of that name, whatever its case."""
    return instance_types().get(name.lower())


def nearest_instance_types(name: str, count: int = 3) -> list[str]:
    """Known names that look like `name`, the most alike first."""
    known = instance_types()
    found = difflib.get_close_matches(name.lower(), known, n=count, cutoff=0.6)
    return [known[key].name for key in found]


def _csv_rows(text: str) -> Iterable[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        yield reader.line_num, {key: value for key, value in row.items() if key and isinstance(value, str)}


def _yaml_rows(text: str, path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.SequenceNode):
        raise InstanceTypesInvalid(f"{path} line 1: a list of instance types is expected, each beginning with - name:")
    for node in root.value:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise InstanceTypesInvalid(f"{path} line {line}: an instance type is a mapping with {', '.join(REQUIRED)}")
        yield line, {str(key.value): str(value.value) for key, value in node.value}


def _checked(rows: Iterable[tuple[int, dict[str, str]]], path: Path) -> Iterable[Mapping[str, str]]:
    for line, row in rows:
        where = f"{path} line {line}"
        missing = [name for name in REQUIRED if not row.get(name)]
        if missing:
            raise InstanceTypesInvalid(f"{where}: {', '.join(missing)} is missing; add it to the instance type")
        unknown = sorted(set(row) - set(InstanceType.__struct_fields__))
        if unknown:
            near = difflib.get_close_matches(unknown[0], InstanceType.__struct_fields__, n=1)
            raise InstanceTypesInvalid(
                f"{where}: {unknown[0]} is not a field" + (f"; did you mean {near[0]}?" if near else "")
            )
        try:
            parsed = _parse(row)
        except ValueError as error:
            raise InstanceTypesInvalid(f"{where}: {error}; write a plain number") from error
        if parsed.gpu_count < 0 or parsed.gpu_memory_mib < 0:
            raise InstanceTypesInvalid(f"{where}: gpu_count and gpu_memory_mib cannot be negative")
        yield row


def _parse(row: Mapping[str, str]) -> InstanceType:
    def number(name: str) -> float | None:
        return float(row[name]) if row.get(name) else None

    return InstanceType(
        cloud=row.get("cloud") or "own",
        name=row["name"],
        gpu_model=row["gpu_model"],
        gpu_count=int(row["gpu_count"]),
        gpu_memory_mib=int(row["gpu_memory_mib"]),
        resource=row.get("resource") or "nvidia.com/gpu",
        compute_capability=number("compute_capability"),
        vcpu=int(row["vcpu"]) if row.get("vcpu") else None,
        memory_gib=number("memory_gib"),
        local_nvme=row.get("local_nvme", "").lower() in ("yes", "true"),
        architecture=row.get("architecture") or "amd64",
        nvlink={"yes": True, "true": True, "no": False, "false": False}.get(row.get("nvlink", "").lower()),
        price_usd_hour=number("price_usd_hour"),
        price_note=row.get("price_note", ""),
        status=row.get("status", ""),
        note=row.get("note", ""),
    )
