"""The three forms of a claim: what is read, what is ours, and how a status is worded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from kaito.api.karpenter import NodeClaim
from kaito.api.meta import Condition
from kaito.nodes.codecs import (
    ALL,
    MACHINE_V1ALPHA5,
    NODE_CLAIM_V1,
    NODE_CLAIM_V1BETA1,
    Codec,
    newest_of_each_kind,
    parse_duration,
)
from kaito.nodes.lifecycle.plan import plan_claim
from tests.nodes.builders import NOW, at, claim, instance, seen

REQUIREMENT = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC6s_v3"]}


def wire(**changes: Any) -> NodeClaim:
    body = {
        "metadata": {
            "name": "ws1",
            "uid": "u",
            "generation": 3,
            "creationTimestamp": "2026-05-01T12:00:00Z",
            "labels": {"kaito.sh/workspace": "phi"},
        },
        "spec": {
            "requirements": [REQUIREMENT],
            "resources": {"requests": {"storage": "100Gi"}},
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        },
    }
    return msgspec.convert({**body, **changes}, NodeClaim)


@pytest.mark.parametrize("codec", ALL, ids=lambda codec: codec.resource.api_version)
def test_decode(codec: Codec) -> None:
    decoded = codec.decode(wire())
    assert decoded.key == f"{codec.kind}/ws1"
    assert decoded.created_at == NOW and decoded.deleted_at is None
    assert decoded.instance_types == ["Standard_NC6s_v3"]
    assert decoded.requests == {"storage": "100Gi"}
    assert not decoded.is_spot


MANAGED: list[Any] = [
    pytest.param(NODE_CLAIM_V1, {"metadata": {"labels": {"kaito.sh/ragengine": "r"}}}, True, id="ragengine"),
    pytest.param(NODE_CLAIM_V1, {"metadata": {"labels": {"team": "x"}}}, False, id="somebody else's"),
    pytest.param(
        NODE_CLAIM_V1,
        {"metadata": {}, "spec": {"nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}}},
        True,
        id="node class",
    ),
    pytest.param(
        NODE_CLAIM_V1BETA1,
        {"metadata": {}, "spec": {"nodeClassRef": {"apiVersion": "kaito.sh/v1alpha1", "kind": "KaitoNodeClass"}}},
        True,
        id="node class v1beta1",
    ),
    pytest.param(
        NODE_CLAIM_V1,
        {"metadata": {}, "spec": {"nodeClassRef": {"group": "karpenter.azure.com", "kind": "AKSNodeClass"}}},
        False,
        id="other node class",
    ),
    pytest.param(MACHINE_V1ALPHA5, {"metadata": {"labels": {"kaito.sh/workspace": "w"}}}, True, id="machine"),
]


@pytest.mark.parametrize(("codec", "changes", "managed"), MANAGED)
def test_which_claims_are_ours(codec: Codec, changes: dict[str, Any], managed: bool) -> None:
    assert codec.is_managed(wire(**changes)) is managed


def status(codec: Codec, **world: Any) -> dict[str, Any]:
    plan = plan_claim(seen(**world))
    assert plan.claim is not None
    return codec.encode_status(plan.claim, [], NOW)


def test_a_node_claim_says_unknown_and_a_machine_says_false() -> None:
    claimed = status(NODE_CLAIM_V1, instance=instance())["conditions"]
    assert claimed[0] == {
        "type": "Launched",
        "status": "True",
        "reason": "Launched",
        "message": "",
        "lastTransitionTime": "2026-05-01T12:00:00Z",
        "observedGeneration": 1,
    }
    assert [(c["type"], c["status"], c["reason"]) for c in claimed[1:]] == [
        ("Registered", "Unknown", "NodeNotFound"),
        ("Initialized", "Unknown", "AwaitingReconciliation"),
        ("Ready", "Unknown", "ReconcilingDependents"),
    ]
    machine = status(MACHINE_V1ALPHA5, instance=instance())["conditions"]
    assert "observedGeneration" not in machine[0]
    assert [(c["type"], c["status"], c["reason"]) for c in machine] == [
        ("MachineLaunched", "True", "Launched"),
        ("MachineRegistered", "False", "NodeNotFound"),
        ("MachineInitialized", "False", "MachineNotRegistered"),
        ("Ready", "False", "ReconcilingDependents"),
    ]


def test_transition_times_move_with_the_status_that_people_see() -> None:
    before = [
        Condition(type="MachineLaunched", status="False", reason="x", lastTransitionTime="2026-05-01T11:00:00Z"),
        Condition(type="MachineRegistered", status="True", reason="x", lastTransitionTime="2026-05-01T11:00:00Z"),
    ]
    after = claim(
        conditions=(
            Condition(type="Launched", status="Unknown", reason="InstanceCreating"),
            Condition(type="Registered", status="Unknown", reason="NodeNotFound"),
        )
    )
    times = [c["lastTransitionTime"] for c in MACHINE_V1ALPHA5.encode_status(after, before, at(60))["conditions"]]
    assert times == ["2026-05-01T11:00:00Z", "2026-05-01T12:01:00Z"]


@pytest.mark.parametrize("codec", ALL, ids=lambda codec: codec.resource.api_version)
def test_status_survives_the_wire(codec: Codec) -> None:
    done = replace(claim(), node_name="n", provider_id="p", capacity={"cpu": "6"}, conditions=())
    raw = wire(status=codec.encode_status(done, [], NOW))
    assert codec.decode(raw).provider_id == "p"
    assert codec.encode_status(codec.decode(raw), [], NOW) == codec.encode_status(done, [], NOW)


def test_two_versions_of_one_kind_are_watched_once() -> None:
    assert newest_of_each_kind(ALL) == [NODE_CLAIM_V1, MACHINE_V1ALPHA5]
    assert newest_of_each_kind([NODE_CLAIM_V1BETA1]) == [NODE_CLAIM_V1BETA1]


@pytest.mark.parametrize(("text", "seconds"), [("1h30m", 5400), ("45s", 45), ("Never", None), ("", None), ("2h", 7200)])
def test_durations(text: str, seconds: int | None) -> None:
    parsed = parse_duration(text)
    assert (parsed.total_seconds() if parsed is not None else None) == seconds
