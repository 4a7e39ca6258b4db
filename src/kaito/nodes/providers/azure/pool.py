"""A claim as an AKS agent pool, and a pool as an instance. Plain dicts in the words of the AKS API."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kaito.api.karpenter import LABEL_INSTANCE_TYPE, LABEL_NODEPOOL, LABEL_PROVISIONER, Taint
from kaito.nodes.claim import (
    ANNOTATION_IMAGE_FAMILY,
    LABEL_MACHINE_TYPE,
    LABEL_RAGENGINE,
    LABEL_WORKSPACE,
    LABEL_ZONE,
    Claim,
)
from kaito.nodes.errors import InvalidSpec
from kaito.nodes.providers.base import Instance, InstanceState

POOL_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
LABEL_CREATED = "kaito.sh/creation-timestamp"
CREATED_LAYOUT = "%Y-%m-%dT%H-%M-%SZ"
"""RFC 3339 with the colons that a label may not have turned into dashes."""
TAG_KIND, TAG_NAME, TAG_UID = "kaito-claim-kind", "kaito-claim-name", "kaito-claim-uid"
IMAGE_FAMILIES = {"ubuntu": "Ubuntu", "azurelinux": "AzureLinux"}
MAX_DISK_GIB = 2048

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][0-9]+|[KMGTPE]i|[kMGTPE]|m)?")
_STATES = {
    "succeeded": InstanceState.RUNNING,
    "creating": InstanceState.CREATING,
    "failed": InstanceState.FAILED,
    "canceled": InstanceState.FAILED,
    "deleting": InstanceState.DELETING,
}


def render_pool(claim: Claim) -> dict[str, Any]:
    """The body of the PUT. Raises InvalidSpec for what AKS could never do."""
    if not POOL_NAME.fullmatch(claim.name):
        raise InvalidSpec(
            f"the claim's name {claim.name} cannot be an agent pool's name",
            hint="it needs 1 to 12 lower-case letters and digits, a letter first",
        )
    types = claim.instance_types
    if not types:
        raise InvalidSpec(
            f"the claim allows no instance type: it needs a requirement {LABEL_INSTANCE_TYPE} with operator In",
            reason="NoInstanceType",
        )
    properties: dict[str, Any] = {
        "mode": "User",
        "type": "VirtualMachineScaleSets",
        "count": 1,
        "vmSize": types[0],
        "osType": "Linux",
        "osSKU": image_family(claim),
        "nodeLabels": node_labels(claim, types[0]),
        "nodeTaints": [_taint(taint) for taint in (*claim.taints, *claim.startup_taints)],
        "tags": {TAG_KIND: claim.kind, TAG_NAME: claim.name, TAG_UID: claim.uid},
    }
    disk = disk_gib(claim.requests.get("storage"))
    if disk:
        properties["osDiskSizeGB"] = disk
    zones = [zone.rpartition("-")[2] for zone in claim.values(LABEL_ZONE)]
    if zones:
        properties["availabilityZones"] = zones
    if claim.is_spot:
        properties |= {"scaleSetPriority": "Spot", "scaleSetEvictionPolicy": "Delete", "spotMaxPrice": -1.0}
    return {"properties": properties}


def node_labels(claim: Claim, size: str) -> dict[str, str]:
    """Labels of the claim, and those by which people and we find the pool again."""
    pool = {} if LABEL_PROVISIONER in claim.labels else {LABEL_NODEPOOL: "kaito"}
    return {
        **pool,
        **claim.labels,
        LABEL_MACHINE_TYPE: "gpu" if size.lower().startswith("standard_n") else "cpu",
        LABEL_CREATED: claim.created_at.astimezone(UTC).strftime(CREATED_LAYOUT),
    }


def image_family(claim: Claim) -> str:
    """The operating system's image; an unknown family is Ubuntu."""
    return IMAGE_FAMILIES.get(claim.annotations.get(ANNOTATION_IMAGE_FAMILY, "ubuntu").lower(), "Ubuntu")


def disk_gib(quantity: str | int | None) -> int:
    """Size of the OS disk in GiB, rounded up; 0 leaves it to AKS. AKS calls the unit GB.

    Raises InvalidSpec for what is no quantity, or more than AKS gives.
    """
    if quantity is None:
        return 0
    size = math.ceil(_parse_bytes(quantity) / 2**30)
    if size > MAX_DISK_GIB:
        raise InvalidSpec(f"a disk of {quantity} is more than AKS gives", hint=f"ask for at most {MAX_DISK_GIB}Gi")
    return size


def _parse_bytes(quantity: str | int) -> Decimal:
    found = _QUANTITY.fullmatch(str(quantity).strip())
    if found is None:
        raise InvalidSpec(f"resources.requests.storage is {quantity!r}", hint="write a quantity such as 100Gi")
    number, suffix = Decimal(found[1]), found[2] or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix[1:].isdigit():
        return number.scaleb(int(suffix[1:]))
    if suffix == "m":
        return number / 1000
    base = Decimal(1024 if suffix.endswith("i") else 1000)
    return number * base ** ("_KMGTPE".index(suffix[0].upper()) if suffix else 0)


def is_ours(pool: Mapping[str, Any]) -> bool:
    """A pool with our tag, or with the labels that gpu-provisioner gives to its own."""
    properties = pool.get("properties") or {}
    labels = properties.get("nodeLabels") or {}
    if (properties.get("tags") or {}).get(TAG_UID):
        return True
    kaito = LABEL_WORKSPACE in labels or LABEL_RAGENGINE in labels
    return kaito and (LABEL_NODEPOOL in labels or LABEL_PROVISIONER in labels)


def to_instance(pool: Mapping[str, Any]) -> Instance:
    """A pool as `GET` and `LIST` show it. A state that is not known is one that something is being done about."""
    properties = pool.get("properties") or {}
    tags, labels = properties.get("tags") or {}, properties.get("nodeLabels") or {}
    state = str(properties.get("provisioningState") or "").lower()
    return Instance(
        name=str(pool.get("name") or ""),
        state=_STATES.get(state, InstanceState.CREATING),
        instance_type=str(properties.get("vmSize") or ""),
        image=str(properties.get("nodeImageVersion") or ""),
        claim_kind=tags.get(TAG_KIND, ""),
        claim_uid=tags.get(TAG_UID, ""),
        created_at=_created(labels),
        labels=dict(labels),
    )


def _created(labels: Mapping[str, str]) -> datetime | None:
    try:
        return datetime.strptime(labels.get(LABEL_CREATED, ""), CREATED_LAYOUT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _taint(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}"
