"""What a cloud must offer to the provisioner: create, get, list and delete instances by the claim's name.

The name is the identity: a create that is repeated after a crash meets what the first one made. `create` returns when
the cloud has accepted; how far it has come is read from `list`, which all claims share, so that a thousand claims cost
no more polling than one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from kaito.api.core import Node
from kaito.nodes.claim import Claim, Quantities
from kaito.nodes.errors import ProviderError


class InstanceState(StrEnum):
    CREATING = "Creating"
    RUNNING = "Running"
    FAILED = "Failed"
    DELETING = "Deleting"


@dataclass(frozen=True)
class Instance:
    """A machine of the cloud that was made for a claim."""

    name: str
    """The claim's name, which is the instance's own."""
    state: InstanceState
    instance_type: str = ""
    provider_id: str = ""
    """What the node will carry in spec.providerID; empty while the cloud does not tell."""
    image: str = ""
    claim_kind: str = ""
    """Kind of the claim it was made for; empty for an instance that somebody else's provisioner made."""
    claim_uid: str = ""
    created_at: datetime | None = None
    labels: dict[str, str] = field(default_factory=dict)
    capacity: Quantities = field(default_factory=dict)
    error: ProviderError | None = None
    """Why it failed, where the cloud tells."""
    operation: str = ""
    """The cloud's name of the operation that makes it; only `create` knows."""


class Provider(Protocol):
    """All calls raise ProviderError and nothing else."""

    name: str
    poll_seconds: float
    """How often to list while something is being created or deleted."""

    async def create(self, claim: Claim) -> Instance:
        """Ask for the instance of `claim`; returns when the cloud has accepted. Idempotent by the claim's name."""
        ...

    async def get(self, name: str) -> Instance:
        """Raises NotFound when there is none."""
        ...

    async def list(self) -> list[Instance]:
        """All instances that the provisioner made, complete: a list that failed half-way raises."""
        ...

    async def explain(self, name: str, operation: str) -> ProviderError | None:
        """Why the instance failed, as the error that `create` would have raised; None when the cloud cannot tell.

        `operation` is what `create` gave, or empty when that was lost.
        """
        ...

    async def delete(self, name: str) -> None:
        """Start to delete. Raises NotFound when nothing is left; until then it may be called again."""
        ...

    def claim_name(self, node: Node) -> str:
        """The name of the claim that this node was made for; empty for any other node."""
        ...

    async def run(self) -> None:
        """What the provider has to do by itself, until cancelled; one that has nothing returns at once."""
        ...

    async def close(self) -> None: ...
