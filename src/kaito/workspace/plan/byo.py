"""What GPUs the nodes that exist have: NVIDIA's feature-discovery labels, or the part of them that is asked for.

Memory in the labels is MiB of one GPU. Without labels only the device plugin's count is known, and the estimate is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kaito.api.conditions import is_true
from kaito.api.core import Node
from kaito.api.validation import MIG_PROFILE, match_labels
from kaito.api.workspace import Partition
from kaito.catalog.gpus import gpu_of_product
from kaito.catalog.instances import InstanceType, find_instance_type
from kaito.workspace.causes import Cause
from kaito.workspace.explain.nodes import whole
from kaito.workspace.observe import Observed

PRODUCT = "nvidia.com/gpu.product"
COUNT = "nvidia.com/gpu.count"
MEMORY = "nvidia.com/gpu.memory"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
RESOURCES = ("nvidia.com/gpu", "amd.com/gpu")


def existing_instance(observed: Observed) -> InstanceType | Cause:
    """The nodes' GPUs as an instance type, or why they cannot be taken for one."""
    resource = observed.workspace.resource
    return shared_instance(observed.nodes, match_labels(resource.labelSelector), resource.partition)


def shared_instance(
    candidates: Sequence[Node], selector: Mapping[str, str], partition: Partition | None
) -> InstanceType | Cause:
    """The type that all ready `candidates` are of; they carry the selector's labels already."""
    nodes = [node for node in candidates if is_true(node.status.conditions, "Ready")]
    if not nodes:
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        if not labels:
            return Cause("NoMatchingNodes", "No node is ready", "Add a node, or see why none is ready.", "you")
        hint = f"Label GPU nodes with {labels}, or see why those that carry it are not ready."
        return Cause("NoMatchingNodes", f"No ready node carries {labels}", hint, "you")
    odd = _odd_one(nodes)
    if odd is not None:
        hint = "Choose a selector that all nodes of one kind match."
        message = f"The nodes {nodes[0].metadata.name} and {odd.metadata.name} have different GPUs"
        return Cause("NonUniformNodes", message, hint, "you", is_final=True)
    whole_node = _instance(nodes[0])
    return _part(whole_node, partition, nodes[0]) if partition else whole_node


def _odd_one(nodes: Sequence[Node]) -> Node | None:
    def shape(node: Node) -> list[str | None]:
        return [node.metadata.labels.get(label) for label in (PRODUCT, COUNT, MEMORY)]

    return next((node for node in nodes if shape(node) != shape(nodes[0])), None)


def _instance(node: Node) -> InstanceType:
    """By the labels; what they leave out the catalogue may know of such a GPU, or of the node's instance type."""
    labels, offered = node.metadata.labels, node.status.allocatable
    resource = next((name for name in RESOURCES if whole(offered.get(name, 0))), RESOURCES[0])
    memory = whole(labels.get(MEMORY, 0))
    gpu = gpu_of_product(labels.get(PRODUCT, ""), memory)
    known = find_instance_type(labels.get(INSTANCE_TYPE, ""))
    return InstanceType(
        cloud="",
        name=labels.get(PRODUCT, node.metadata.name),
        gpu_model=gpu.model if gpu else labels.get(PRODUCT, ""),
        gpu_count=whole(labels.get(COUNT, 0)) or whole(offered.get(resource, 0)),
        gpu_memory_mib=memory,
        resource=resource,
        compute_capability=_capability(labels) or (gpu.compute_capability if gpu else None),
        vcpu=None,
        memory_gib=None,
        local_nvme=False,
        architecture=labels.get("kubernetes.io/arch", "amd64"),
        nvlink=known.nvlink if known else None,
    )


def _capability(labels: Mapping[str, str]) -> float | None:
    """Feature discovery writes `nvidia.com/gpu.compute.*`, KAITO reads `nvidia.com/cuda.compute.*`."""
    for prefix in ("nvidia.com/gpu.compute", "nvidia.com/cuda.compute"):
        major, minor = labels.get(f"{prefix}.major", ""), labels.get(f"{prefix}.minor", "")
        if major.isdigit() and minor.isdigit():
            return float(f"{major}.{minor}")
    return None


def _part(node_type: InstanceType, partition: Partition, node: Node) -> InstanceType | Cause:
    if partition.mode == "accelerator":
        wanted = partition.count or 1
        if node_type.gpu_count and wanted > node_type.gpu_count:
            message = f"{wanted} GPUs are asked for of the {node_type.gpu_count} that {node.metadata.name} has"
            return Cause("InvalidPartition", message, "Ask for fewer, or use larger nodes.", "you", is_final=True)
        return _replaced(node_type, gpu_count=wanted)
    profile = MIG_PROFILE.match(partition.profile)
    assert profile is not None, "validated before"
    mib = int(float(profile["memory"])) * 1024
    return _replaced(node_type, gpu_count=1, gpu_memory_mib=mib, resource=f"nvidia.com/mig-{partition.profile}")


def _replaced(node_type: InstanceType, **changes: object) -> InstanceType:
    fields = {name: getattr(node_type, name) for name in InstanceType.__struct_fields__}
    return InstanceType(**{**fields, **changes})
