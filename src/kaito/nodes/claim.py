"""The internal model of a request for a node: what the lifecycle reads, whichever kind and version it came as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kaito.api.karpenter import LABEL_INSTANCE_TYPE, TERMINATION_FINALIZER, Requirement, Taint
from kaito.api.meta import Condition

LABEL_WORKSPACE = "kaito.sh/workspace"
LABEL_RAGENGINE = "kaito.sh/ragengine"
LABEL_MACHINE_TYPE = "kaito.sh/machine-type"
LABEL_CAPACITY_TYPE = "karpenter.sh/capacity-type"
LABEL_ZONE = "topology.kubernetes.io/zone"
LABEL_DO_NOT_SYNC_TAINTS = "karpenter.sh/do-not-sync-taints"
ANNOTATION_TERMINATION_TIME = "karpenter.sh/nodeclaim-termination-timestamp"
ANNOTATION_CLAIM = "kaito.sh/claim"
"""On a node of ours: `<kind>/<uid>` of the claim that it was made for."""
ANNOTATION_OPERATION = "kaito.sh/provider-operation"
"""On a claim: the cloud's name of the operation that makes its instance, to ask later why it failed."""
ANNOTATION_IMAGE_FAMILY = "kaito.sh/node-image-family"
NODE_CLASS_KIND = "KaitoNodeClass"

LAUNCHED = "Launched"
REGISTERED = "Registered"
INITIALIZED = "Initialized"
READY = "Ready"
STEPS = (LAUNCHED, REGISTERED, INITIALIZED)

Quantities = Mapping[str, str | int]


@dataclass(frozen=True)
class Claim:
    """A NodeClaim or a Machine. Condition types are the canonical ones (`Launched`, never `MachineLaunched`)."""

    kind: str
    api_version: str
    name: str
    uid: str
    created_at: datetime
    generation: int = 0
    resource_version: str = ""
    deleted_at: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    taints: tuple[Taint, ...] = ()
    startup_taints: tuple[Taint, ...] = ()
    requests: Quantities = field(default_factory=dict)
    grace: timedelta | None = None
    """How long a drain may take before it is forced; None means for ever."""
    conditions: tuple[Condition, ...] = ()
    node_name: str = ""
    provider_id: str = ""
    image_id: str = ""
    capacity: Quantities = field(default_factory=dict)
    allocatable: Quantities = field(default_factory=dict)

    @property
    def key(self) -> str:
        return claim_key(self.kind, self.name)

    @property
    def instance_types(self) -> list[str]:
        """The types that the claim allows, the preferred first; empty when it names none."""
        return self.values(LABEL_INSTANCE_TYPE)

    @property
    def is_spot(self) -> bool:
        """Spot when the claim allows only that: on-demand wins where both will do."""
        return self.values(LABEL_CAPACITY_TYPE) == ["spot"]

    @property
    def has_finalizer(self) -> bool:
        return TERMINATION_FINALIZER in self.finalizers

    def values(self, key: str) -> list[str]:
        """What the `In` requirements on `key` allow: values that all of them name, in the order of the first."""
        sets = [r.values for r in self.requirements if r.key == key and r.operator == "In"]
        return [v for v in sets[0] if all(v in others for others in sets[1:])] if sets else []

    def condition(self, type_: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == type_), None)

    def is_true(self, type_: str) -> bool:
        condition = self.condition(type_)
        return condition is not None and condition.status == "True"

    @property
    def termination_time(self) -> datetime | None:
        """When patience with the drain ends, as the annotation has it. A text that is no time is no limit."""
        text = self.annotations.get(ANNOTATION_TERMINATION_TIME, "")
        try:
            return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
        except ValueError:
            return None


def claim_key(kind: str, name: str) -> str:
    return f"{kind}/{name}"
