"""Other instance types of the catalogue that would hold what the asked one holds."""

from __future__ import annotations

import re

from kaito.catalog.instances import InstanceType, find_instance_type, instance_types


def alternatives(size: str, count: int = 3) -> list[str]:
    """Azure's NVIDIA types of other families with at least as much GPU memory, the smallest first."""
    asked = find_instance_type(size)
    if asked is None:
        return []
    fitting = [
        kind
        for kind in instance_types().values()
        if kind.cloud == "azure"
        and kind.resource == asked.resource
        and family(kind.name) != family(asked.name)
        and _gpu_memory(kind) >= _gpu_memory(asked)
    ]
    fitting.sort(key=lambda kind: (_gpu_memory(kind), kind.gpu_count, kind.name))
    return [kind.name for kind in fitting[:count]]


def alternatives_in_words(size: str) -> str:
    return " or ".join(alternatives(size))


def family(name: str) -> str:
    """The quota family's shape of a name: `Standard_NC24ads_A100_v4` and `NC48ads_A100_v4` share one."""
    return re.sub(r"(?<=[A-Za-z])\d+(?=[a-z]*_|[a-z]*$)", "", name, count=1).lower()


def _gpu_memory(kind: InstanceType) -> int:
    return kind.gpu_count * kind.gpu_memory_mib
