"""Instances of the providers whose machines are Node objects and nothing else: read back from the Node."""

from __future__ import annotations

from kaito.api.conditions import parse_timestamp
from kaito.api.core import Node
from kaito.api.karpenter import LABEL_INSTANCE_TYPE
from kaito.nodes.claim import ANNOTATION_CLAIM
from kaito.nodes.providers.base import Instance, InstanceState


def to_instance(node: Node) -> Instance:
    claim_kind, _, claim_uid = node.metadata.annotations.get(ANNOTATION_CLAIM, "").partition("/")
    created = node.metadata.creationTimestamp
    return Instance(
        name=node.metadata.name,
        state=InstanceState.RUNNING,
        instance_type=node.metadata.labels.get(LABEL_INSTANCE_TYPE, ""),
        provider_id=node.spec.providerID,
        claim_kind=claim_kind,
        claim_uid=claim_uid,
        created_at=parse_timestamp(created) if created else None,
    )
