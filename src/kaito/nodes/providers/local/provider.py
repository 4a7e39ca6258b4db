"""The provider of one machine: an instance is a Node object, made whole at once.

The node agent is kubelet for every Node whose providerID starts with `local://`: it reads the annotation
`kaito.sh/capacity`, fills in the status and says Ready. So `create` is one write, and `list` reads Nodes.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kaito.api.core import Node
from kaito.api.karpenter import LABEL_INSTANCE_TYPE, TERMINATION_FINALIZER
from kaito.catalog.instances import InstanceType
from kaito.kube.client import Client
from kaito.kube.errors import AlreadyExists, ApiError, Forbidden, Invalid, KubeError
from kaito.kube.errors import NotFound as ObjectNotFound
from kaito.kube.resources import NODES
from kaito.nodes.claim import ANNOTATION_CLAIM, LABEL_MACHINE_TYPE, Claim
from kaito.nodes.errors import ConfigError, InvalidSpec, NotFound, ProviderError, Transient
from kaito.nodes.lifecycle.registration import node_labels, owner_reference
from kaito.nodes.providers.base import Instance
from kaito.nodes.providers.local.machine import Machine
from kaito.nodes.providers.nodes import to_instance
from kaito.nodes.providers.types import choose_instance_type

PREFIX = "local://"
LABEL_NODE_PROVIDER = "kaito.sh/node-provider"
ANNOTATION_BACKED_BY = "kaito.sh/backed-by"
ANNOTATION_CAPACITY = "kaito.sh/capacity"
MAX_PODS = "110"


class LocalProvider:
    """Virtual nodes on `machine`, in the cluster that `client` speaks to."""

    name = "local"
    poll_seconds = 1.0

    def __init__(self, client: Client, machine: Machine) -> None:
        self._client = client
        self._machine = machine

    async def create(self, claim: Claim) -> Instance:
        """One Node, with all that registration would put on it. Raises InvalidSpec for an unknown instance type."""
        body = render_node(claim, choose_instance_type(claim), self._machine)
        try:
            node = await self._client.create(NODES, body)
        except AlreadyExists:
            return await self._adopt(claim)
        except KubeError as error:
            raise _provider_error(error) from error
        return to_instance(node)

    async def get(self, name: str) -> Instance:
        try:
            node = await self._client.find(NODES, name)
        except KubeError as error:
            raise _provider_error(error) from error
        if node is None or not _is_ours(node) or node.metadata.deletionTimestamp is not None:
            raise NotFound(f"there is no local node {name}")
        return to_instance(node)

    async def list(self) -> list[Instance]:
        """Nodes that are being deleted are gone already: nothing but their Node object ever was there."""
        try:
            listing = await self._client.list(NODES)
        except KubeError as error:
            raise _provider_error(error) from error
        nodes = [node for node, _ in listing.items]
        return [to_instance(n) for n in nodes if _is_ours(n) and n.metadata.deletionTimestamp is None]

    async def explain(self, name: str, operation: str) -> ProviderError | None:
        return None  # a node that exists never fails

    async def delete(self, name: str) -> None:
        """Delete the Node; the machine behind it stays. Ends in NotFound always: there is nothing to wait for."""
        await self.get(name)
        try:
            await self._client.delete(NODES, name)
        except KubeError as error:
            raise _provider_error(error) from error
        raise NotFound(f"local node {name} is gone")

    def claim_name(self, node: Node) -> str:
        return node.spec.providerID.rpartition("/")[2] if _is_ours(node) else ""

    async def run(self) -> None:
        """The node agent does the rest."""

    async def close(self) -> None:
        """The client belongs to whoever made it."""

    async def _adopt(self, claim: Claim) -> Instance:
        """A Node of this name is there: our own from before a crash, or somebody else's machine."""
        try:
            return await self.get(claim.name)
        except NotFound as absent:
            message = f"a node named {claim.name} exists that this provisioner did not make"
            raise Transient(message, reason="NameTaken", retry_after=1.0) from absent


def render_node(claim: Claim, kind: InstanceType, machine: Machine) -> dict[str, Any]:
    """The Node for `claim`: it carries the type that was asked for, and says what really stands behind it."""
    facts = {
        LABEL_INSTANCE_TYPE: kind.name,
        LABEL_MACHINE_TYPE: "gpu" if kind.gpu_count else "cpu",
        LABEL_NODE_PROVIDER: "local",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/os": machine.os,
        "kubernetes.io/hostname": claim.name,
    }
    return {
        "metadata": {
            "name": claim.name,
            "labels": {**facts, **node_labels(claim, facts)},
            "annotations": {
                ANNOTATION_BACKED_BY: machine.in_words,
                ANNOTATION_CAPACITY: json.dumps(capacity(kind, machine)),
                ANNOTATION_CLAIM: f"{claim.kind}/{claim.uid}",
            },
            "finalizers": [TERMINATION_FINALIZER],
            "ownerReferences": [owner_reference(claim)],
        },
        "spec": {
            "providerID": f"{PREFIX}{machine.hostname}/{claim.name}",
            "taints": [msgspec.to_builtins(taint) for taint in (*claim.taints, *claim.startup_taints)],
        },
    }


def capacity(kind: InstanceType, machine: Machine) -> dict[str, str]:
    """CPU and memory of the machine itself, and as many GPUs as the instance type has, as Kubernetes quantities."""
    offers = {"cpu": str(machine.cpus), "memory": f"{machine.memory_bytes // 1024}Ki", "pods": MAX_PODS}
    if kind.gpu_count:
        offers[kind.resource] = str(kind.gpu_count)
    return offers


def _is_ours(node: Node) -> bool:
    """The machine's own Node has the prefix too, but no claim: it is the agent's, and never garbage."""
    return node.spec.providerID.startswith(PREFIX) and ANNOTATION_CLAIM in node.metadata.annotations


def _provider_error(error: KubeError) -> ProviderError:
    match error:
        case ObjectNotFound():
            return NotFound(str(error))
        case Forbidden():
            return ConfigError(f"the API server does not let the provisioner work on nodes: {error}")
        case Invalid():
            return InvalidSpec(f"the API server does not take the node: {error}")
        case ApiError() | KubeError():
            return Transient(f"the API server did not make or show the node: {error}")
