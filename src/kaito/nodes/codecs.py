"""Three forms of one claim: NodeClaim v1 and v1beta1, Machine v1alpha5.

They differ in how a condition is named and in what a step that is not done yet looks like: NodeClaims say Unknown,
Machines say False and prefix the types. The lifecycle knows nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kaito.api.conditions import merge, parse_timestamp
from kaito.api.karpenter import NodeClaim, NodeClassRef
from kaito.api.meta import Condition
from kaito.kube.resources import MACHINES, NODE_CLAIMS, NODE_CLAIMS_V1BETA1, Resource
from kaito.nodes.claim import (
    INITIALIZED,
    LABEL_RAGENGINE,
    LABEL_WORKSPACE,
    LAUNCHED,
    NODE_CLASS_KIND,
    READY,
    REGISTERED,
    Claim,
)

AWAITING = "AwaitingReconciliation"
"""The reason of a step whose turn has not come; each kind words it in its own way."""

_DURATION = re.compile(r"([0-9]+)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Codec:
    """How one kind at one version is read and how its status is written."""

    resource: Resource[NodeClaim]
    condition_names: dict[str, str]
    """Canonical condition type -> the type on the wire."""
    pending: str
    """The status of a condition that does not hold yet: "Unknown" or "False"."""
    has_generation: bool
    awaiting: dict[str, tuple[str, str]]
    """Condition -> (reason, message) while the step before it is not done."""
    reads_node_class: Callable[[NodeClassRef | None], bool]

    @property
    def kind(self) -> str:
        return self.resource.kind

    def is_managed(self, raw: NodeClaim) -> bool:
        """Whether the claim is ours: KAITO's labels, or the node class that is reserved for us."""
        labels = raw.metadata.labels
        return LABEL_WORKSPACE in labels or LABEL_RAGENGINE in labels or self.reads_node_class(raw.spec.nodeClassRef)

    def decode(self, raw: NodeClaim) -> Claim:
        meta, spec, status = raw.metadata, raw.spec, raw.status
        canonical = {wire: name for name, wire in self.condition_names.items()}
        return Claim(
            kind=self.kind,
            api_version=self.resource.api_version,
            name=meta.name,
            uid=meta.uid,
            created_at=_moment(meta.creationTimestamp) or datetime.fromtimestamp(0, UTC),
            generation=meta.generation,
            resource_version=meta.resourceVersion,
            deleted_at=_moment(meta.deletionTimestamp),
            labels=meta.labels,
            annotations=meta.annotations,
            finalizers=tuple(meta.finalizers),
            requirements=tuple(spec.requirements),
            taints=tuple(spec.taints),
            startup_taints=tuple(spec.startupTaints),
            requests=spec.resources.requests,
            grace=parse_duration(spec.terminationGracePeriod),
            conditions=tuple(
                msgspec.structs.replace(c, type=canonical[c.type]) for c in status.conditions if c.type in canonical
            ),
            node_name=status.nodeName,
            provider_id=status.providerID,
            image_id=status.imageID,
            capacity=status.capacity,
            allocatable=status.allocatable,
        )

    def encode_status(self, claim: Claim, before: Sequence[Condition], now: datetime) -> dict[str, Any]:
        """The status as it is applied; empty fields are left out.

        `before` are the conditions on the wire: transition times move only where the status that people see does.
        """
        fields = {
            "nodeName": claim.node_name,
            "providerID": claim.provider_id,
            "imageID": claim.image_id,
            "capacity": dict(claim.capacity),
            "allocatable": dict(claim.allocatable),
        }
        if self.kind == "Machine":
            del fields["imageID"]  # Machine has no such field
        conditions = merge(before, [self._on_the_wire(c, claim.generation) for c in claim.conditions], now)
        return {
            **{key: value for key, value in fields.items() if value},
            "conditions": [_condition_body(c) for c in conditions],
        }

    def _on_the_wire(self, condition: Condition, generation: int) -> Condition:
        reason, message = condition.reason, condition.message
        if reason == AWAITING:
            reason, message = self.awaiting[condition.type]
        return Condition(
            type=self.condition_names[condition.type],
            status=self.pending if condition.status == "Unknown" else condition.status,
            reason=reason,
            message=message,
            observedGeneration=generation if self.has_generation else None,
        )


def _condition_body(condition: Condition) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(condition)
    return {"reason": "", "message": "", **body}


def parse_duration(text: str) -> timedelta | None:
    """Karpenter's durations, such as `1h30m`; None for an empty text or `Never`."""
    parts = _DURATION.findall(text)
    return timedelta(seconds=sum(int(n) * _SECONDS[unit] for n, unit in parts)) if parts else None


def _moment(text: str | None) -> datetime | None:
    return parse_timestamp(text) if text else None


def _is_ours_v1(ref: NodeClassRef | None) -> bool:
    return ref is not None and ref.kind == NODE_CLASS_KIND and ref.group in ("kaito.sh", "")


def _is_ours_v1beta1(ref: NodeClassRef | None) -> bool:
    return ref is not None and ref.kind == NODE_CLASS_KIND and ref.apiVersion.partition("/")[0] in ("kaito.sh", "")


_PLAIN = {name: name for name in (LAUNCHED, REGISTERED, INITIALIZED, READY)}
_AWAITING = dict.fromkeys(_PLAIN, (AWAITING, "object is awaiting reconciliation"))

NODE_CLAIM_V1 = Codec(NODE_CLAIMS, _PLAIN, "Unknown", True, _AWAITING, _is_ours_v1)
NODE_CLAIM_V1BETA1 = Codec(NODE_CLAIMS_V1BETA1, _PLAIN, "Unknown", False, _AWAITING, _is_ours_v1beta1)
MACHINE_V1ALPHA5 = Codec(
    MACHINES,
    {
        LAUNCHED: "MachineLaunched",
        REGISTERED: "MachineRegistered",
        INITIALIZED: "MachineInitialized",
        READY: READY,
    },
    "False",
    False,
    {
        LAUNCHED: ("MachineNotLaunched", "the machine is not launched yet"),
        REGISTERED: ("MachineNotLaunched", "the machine is not launched yet"),
        INITIALIZED: ("MachineNotRegistered", "the machine's node is not registered yet"),
        READY: ("MachineNotLaunched", "the machine is not launched yet"),
    },
    lambda _: False,
)

ALL: tuple[Codec, ...] = (NODE_CLAIM_V1, NODE_CLAIM_V1BETA1, MACHINE_V1ALPHA5)


def newest_of_each_kind(codecs: Iterable[Codec]) -> list[Codec]:
    """One codec per kind, the newest version first in `ALL` winning: two versions show the same objects."""
    chosen: dict[str, Codec] = {}
    for codec in codecs:
        chosen.setdefault(codec.kind, codec)
    return list(chosen.values())
