"""Karpenter's node objects: NodeClaim v1 and v1beta1, Machine v1alpha5 (one shape for what we read), NodePool v1."""

from __future__ import annotations

import msgspec

from kaito.api.meta import Condition, ObjectMeta

GROUP = "karpenter.sh"
TERMINATION_FINALIZER = "karpenter.sh/termination"
LABEL_NODEPOOL = "karpenter.sh/nodepool"
LABEL_REGISTERED = "karpenter.sh/registered"
LABEL_INITIALIZED = "karpenter.sh/initialized"
LABEL_PROVISIONER = "karpenter.sh/provisioner-name"
LABEL_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ANNOTATION_DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"


class Taint(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    key: str
    effect: str
    value: str = ""


class Requirement(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    key: str
    operator: str
    values: list[str] = []


class NodeClassRef(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    group: str = ""
    kind: str = ""
    name: str = ""
    apiVersion: str = ""


class ClaimResources(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    requests: dict[str, str | int] = {}


class ClaimSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    requirements: list[Requirement] = []
    taints: list[Taint] = []
    startupTaints: list[Taint] = []
    resources: ClaimResources = ClaimResources()
    nodeClassRef: NodeClassRef | None = None
    machineTemplateRef: NodeClassRef | None = None
    terminationGracePeriod: str = ""
    expireAfter: str = ""


class ClaimStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    conditions: list[Condition] = []
    nodeName: str = ""
    providerID: str = ""
    imageID: str = ""
    capacity: dict[str, str | int] = {}
    allocatable: dict[str, str | int] = {}


class NodeClaim(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A NodeClaim, or a Machine: the fields that are read have the same places in all three versions."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()
    apiVersion: str = ""
    kind: str = ""


def requirement_values(claim: NodeClaim, key: str) -> list[str]:
    """The values that the claim's `In` requirement on `key` allows; empty when there is none."""
    return next((r.values for r in claim.spec.requirements if r.key == key and r.operator == "In"), [])


class PoolSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    replicas: int = 0


class PoolStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    conditions: list[Condition] = []


class NodePool(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A pool of a fixed number of nodes."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PoolSpec = PoolSpec()
    status: PoolStatus = PoolStatus()
