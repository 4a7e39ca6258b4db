"""Which instance type a claim gets, by the catalogue."""

from __future__ import annotations

from kaito.api.karpenter import LABEL_INSTANCE_TYPE
from kaito.catalog.instances import InstanceType, find_instance_type, nearest_instance_types
from kaito.nodes.claim import Claim
from kaito.nodes.errors import InvalidSpec


def choose_instance_type(claim: Claim) -> InstanceType:
    """The first type that the claim allows and the catalogue knows.

    Raises InvalidSpec, naming the types that look most like it.
    """
    names = claim.instance_types
    if not names:
        raise InvalidSpec(
            f"the claim allows no instance type: it needs a requirement {LABEL_INSTANCE_TYPE} with operator In",
            reason="NoInstanceType",
        )
    for name in names:
        known = find_instance_type(name)
        if known is not None:
            return known
    unknown = names[0]
    nearest = nearest_instance_types(unknown)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "take one that the catalogue lists"
    raise InvalidSpec(f"instance type {unknown} is unknown", reason="UnknownInstanceType", hint=hint)
