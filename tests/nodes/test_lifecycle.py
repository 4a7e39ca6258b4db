"""The sub-reconcilers as tables: a world in, the condition and the actions out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kaito.api.karpenter import TERMINATION_FINALIZER, Taint
from kaito.api.meta import Condition, OwnerReference
from kaito.nodes.errors import ConfigError, InsufficientCapacity, InvalidSpec, ProviderError, Transient
from kaito.nodes.lifecycle.initialization import is_zero
from kaito.nodes.lifecycle.launch import attempt_of
from kaito.nodes.lifecycle.plan import plan_claim
from kaito.nodes.lifecycle.world import (
    Attempt,
    CreateInstance,
    DeleteClaim,
    DeleteInstance,
    ExplainFailure,
    ListInstances,
    Observed,
    PatchClaim,
    PatchNode,
    Plan,
    Policy,
    RememberFailure,
)
from kaito.nodes.providers.base import InstanceState
from tests.nodes.builders import NOW, SKU, at, claim, conditions, instance, node, seen, stamp

OWNED: dict[str, Any] = {
    "finalizers": [TERMINATION_FINALIZER],
    "ownerReferences": [OwnerReference("karpenter.sh/v1", "NodeClaim", "ws1234", "uid-1", blockOwnerDeletion=True)],
}
READY_LABELS = {
    "kaito.sh/workspace": "phi",
    "node.kubernetes.io/instance-type": "Standard_NC6s_v3",
    "karpenter.sh/registered": "true",
    "karpenter.sh/initialized": "true",
}
ALL_TRUE = conditions(Launched="True", Registered="True", Initialized="True", Ready="True")


def condition(plan: Plan, type_: str) -> tuple[str, str]:
    assert plan.claim is not None
    found = plan.claim.condition(type_)
    assert found is not None
    return found.status, found.reason


def kinds(plan: Plan) -> list[type]:
    return [type(action) for action in plan.actions]


def failure(error: ProviderError) -> Attempt:
    return attempt_of(error, NOW)


LAUNCH: list[Any] = [
    pytest.param({"instances_known": False}, "Unknown", "AwaitingReconciliation", [ListInstances], id="not listed yet"),
    pytest.param(
        {"instances_known": False, "list_error": ConfigError("no such cluster")},
        "Unknown",
        "ProviderMisconfigured",
        [],
        id="list fails",
    ),
    pytest.param(
        {"instance": instance(state=InstanceState.CREATING)}, "Unknown", "InstanceCreating", [], id="being created"
    ),
    pytest.param({"instance": instance()}, "True", "Launched", [], id="runs"),
    pytest.param({"instance": instance(claim_uid="", claim_kind="")}, "True", "Launched", [], id="adopted"),
    pytest.param(
        {"instance": instance(claim_uid="other"), "rival": "Machine/ws1234"}, "False", "NameTaken", [], id="taken"
    ),
    pytest.param(
        {"instance": instance(claim_uid="former")}, "Unknown", "ReplacingInstance", [DeleteInstance], id="former life"
    ),
    pytest.param(
        {"instance": instance(state=InstanceState.FAILED, error=InsufficientCapacity("no room"))},
        "False",
        "InsufficientCapacity",
        [RememberFailure, DeleteInstance],
        id="failed in the cloud",
    ),
    pytest.param(
        {"instance": instance(state=InstanceState.FAILED)}, "False", "LaunchFailed", [ExplainFailure], id="no reason"
    ),
    pytest.param(
        {"instance": instance(state=InstanceState.DELETING)}, "Unknown", "InstanceDeleting", [], id="still deleting"
    ),
    pytest.param(
        {"instance": instance(state=InstanceState.DELETING), "attempt": failure(InsufficientCapacity("no room"))},
        "False",
        "InsufficientCapacity",
        [],
        id="the failed one is deleting",
    ),
    pytest.param({"attempt": failure(InvalidSpec("what?"))}, "False", "InvalidSpec", [], id="can never be met"),
    pytest.param({"attempt": failure(Transient("504"))}, "False", "LaunchFailed", [], id="waits for its turn"),
]


@pytest.mark.parametrize(("world", "status", "reason", "actions"), LAUNCH)
def test_launch(world: dict[str, Any], status: str, reason: str, actions: list[type]) -> None:
    plan = plan_claim(seen(**world))
    assert condition(plan, "Launched") == (status, reason)
    assert [kind for kind in kinds(plan) if kind.__name__ != "Announce"] == actions


def test_create_only_when_the_cloud_is_known_and_has_none() -> None:
    plan = plan_claim(seen())
    assert kinds(plan) == [CreateInstance]
    assert plan.claim is None, "nothing is written before a create: its outcome follows at once"


def test_the_finalizer_comes_before_what_costs_money() -> None:
    assert kinds(plan_claim(seen(claim=claim(finalizers=("other",))))) == [PatchClaim, CreateInstance]
    patch = plan_claim(seen(claim=claim(finalizers=("other",)))).actions[0]
    labels = {"node.kubernetes.io/instance-type": "Standard_NC6s_v3"}
    assert patch == PatchClaim({"finalizers": ["other", TERMINATION_FINALIZER], "labels": labels})
    chosen = claim(finalizers=(), labels=labels)
    assert plan_claim(seen(claim=chosen)).actions[0] == PatchClaim({"finalizers": [TERMINATION_FINALIZER]})


def test_a_failed_create_is_tried_again_when_its_time_has_come() -> None:
    attempt = failure(InsufficientCapacity("no room", retry_after=600))
    waiting = plan_claim(seen(attempt=attempt, now=at(599)))
    assert CreateInstance not in kinds(waiting) and waiting.requeue_after == 1.0
    assert CreateInstance in kinds(plan_claim(seen(attempt=attempt, now=at(600))))


def test_an_invalid_spec_is_never_tried_again() -> None:
    plan = plan_claim(seen(attempt=failure(InvalidSpec("what?")), now=at(86400)))
    assert CreateInstance not in kinds(plan)
    assert plan.requeue_after is None


def test_no_capacity_deletes_the_claim_where_policy_says_so() -> None:
    attempt = failure(InsufficientCapacity("no room"))
    assert DeleteClaim not in kinds(plan_claim(seen(attempt=attempt)))
    karpenter = Policy(delete_without_capacity=True)
    assert DeleteClaim in kinds(plan_claim(seen(attempt=attempt, policy=karpenter)))


def launched(**changes: Any) -> Observed:
    return seen(**{"claim": claim(conditions=conditions(Launched="True")), "instance": instance(), **changes})


def test_registration_makes_the_node_what_the_claim_asked_for() -> None:
    young = node(labels={}, taints=(Taint("karpenter.sh/unregistered", "NoExecute"),))
    plan = plan_claim(launched(nodes=(young,)))
    patch = next(action for action in plan.actions if isinstance(action, PatchNode))
    assert patch.version == "20"
    assert patch.patch["spec"]["taints"] == [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
    assert patch.patch["metadata"]["labels"] == {
        "node.kubernetes.io/instance-type": "Standard_NC6s_v3",
        "kaito.sh/workspace": "phi",
        "karpenter.sh/registered": "true",
    }
    assert patch.patch["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert patch.patch["metadata"]["finalizers"] == [TERMINATION_FINALIZER]
    assert condition(plan, "Registered") == ("True", "Registered")
    assert plan.claim is not None and plan.claim.node_name == "ws1234"


REGISTRATION: list[Any] = [
    pytest.param({}, "Unknown", "NodeNotFound", id="no node"),
    pytest.param({"nodes": (node(), node(name="twin"))}, "False", "MultipleNodesFound", id="two nodes"),
    pytest.param({"nodes": (node(),)}, "True", "Registered", id="one node"),
    pytest.param({"claim": claim(), "instance": None}, None, "", id="nothing is told before a create"),
]


@pytest.mark.parametrize(("world", "status", "reason"), REGISTRATION)
def test_registration(world: dict[str, Any], status: str | None, reason: str) -> None:
    plan = plan_claim(launched(**world))
    if status is None:
        assert plan.claim is None
    else:
        assert condition(plan, "Registered") == (status, reason)


def test_registered_nodes_are_not_written_again() -> None:
    plan = plan_claim(launched(claim=claim(conditions=ALL_TRUE), nodes=(node(labels=READY_LABELS, **OWNED),)))
    assert plan.actions == ()


def test_startup_taints_that_were_taken_off_stay_off() -> None:
    startup = Taint("warming", "NoSchedule")
    registered = node(labels=READY_LABELS, **OWNED)
    plan = plan_claim(launched(claim=claim(startup_taints=(startup,)), nodes=(registered,)))
    assert not any("spec" in action.patch for action in plan.actions if isinstance(action, PatchNode))


INITIALIZATION: list[Any] = [
    pytest.param(node(ready="False"), {}, "NodeNotReady", id="not ready"),
    pytest.param(
        node(taints=(SKU, Taint("node.kubernetes.io/not-ready", "NoSchedule"))),
        {},
        "KnownEphemeralTaintsExist",
        id="not-ready taint",
    ),
    pytest.param(
        node(taints=(Taint("readiness.k8s.io/net", "NoSchedule"),)), {}, "KnownEphemeralTaintsExist", id="readiness"
    ),
    pytest.param(
        node(taints=(Taint("warming", "NoSchedule"),)),
        {"startup_taints": (Taint("warming", "NoSchedule"),)},
        "StartupTaintsExist",
        id="startup taint",
    ),
    pytest.param(node(gpus=0), {"requests": {"nvidia.com/gpu": "1"}}, "ResourceNotRegistered", id="no GPU yet"),
]


@pytest.mark.parametrize(("present", "asked", "reason"), INITIALIZATION)
def test_initialization_waits(present: Any, asked: dict[str, Any], reason: str) -> None:
    plan = plan_claim(launched(claim=claim(conditions=conditions(Launched="True"), **asked), nodes=(present,)))
    assert condition(plan, "Initialized") == ("Unknown", reason)
    assert condition(plan, "Ready") == ("Unknown", "ReconcilingDependents")


@pytest.mark.parametrize("requests", [{"storage": "100Gi"}, {"nvidia.com/gpu": 1}, {"nvidia.com/gpu": 0, "x/y": "0"}])
def test_initialized_and_ready(requests: dict[str, Any]) -> None:
    plan = plan_claim(launched(claim=claim(requests=requests), nodes=(node(),)))
    assert condition(plan, "Initialized") == ("True", "Initialized")
    assert condition(plan, "Ready") == ("True", "Ready")
    labels = [a.patch for a in plan.actions if isinstance(a, PatchNode) and not a.version]
    assert labels == [{"metadata": {"labels": {"karpenter.sh/initialized": "true"}}}]


@pytest.mark.parametrize(
    ("quantity", "zero"),
    [(None, True), ("0", True), (0, True), ("0Gi", True), ("0.0", True), ("100m", False), (1, False), ("1e3", False)],
)
def test_zero_quantities(quantity: str | int | None, zero: bool) -> None:
    assert is_zero(quantity) is zero


def test_a_launch_that_takes_too_long_says_so_and_deletes_the_claim() -> None:
    world = {"instance": instance(state=InstanceState.CREATING)}
    assert plan_claim(seen(**world, now=at(1799))).requeue_after == 1.0
    plan = plan_claim(seen(**world, now=at(1800)))
    assert condition(plan, "Launched") == ("False", "LaunchDeadlineExceeded")
    assert condition(plan, "Ready") == ("False", "UnhealthyDependents")
    assert DeleteClaim in kinds(plan)
    kept = plan_claim(seen(**world, now=at(1800), policy=Policy(delete_after_deadline=False)))
    assert DeleteClaim not in kinds(kept)


def test_a_node_that_never_comes() -> None:
    policy = Policy(registration_deadline=timedelta(minutes=5))
    assert plan_claim(launched(now=at(299), policy=policy)).requeue_after == 1.0
    plan = plan_claim(launched(now=at(300), policy=policy))
    assert condition(plan, "Registered") == ("False", "RegistrationDeadlineExceeded")
    assert DeleteClaim in kinds(plan)


def test_a_claim_that_is_kept_goes_on_saying_that_its_node_never_came() -> None:
    policy = Policy(registration_deadline=timedelta(minutes=5), delete_after_deadline=False)
    missed = Condition("Registered", "False", "RegistrationDeadlineExceeded", lastTransitionTime=stamp(at(300)))
    said = claim(conditions=(*conditions(Launched="True"), missed))
    later = plan_claim(launched(claim=said, now=at(301), policy=policy))
    assert condition(later, "Registered") == ("False", "RegistrationDeadlineExceeded")
    joined = plan_claim(launched(claim=said, nodes=(node(labels=READY_LABELS, **OWNED),), now=at(301), policy=policy))
    assert condition(joined, "Registered") == ("True", "Registered")


def test_waiting_for_capacity_is_not_cut_off_by_the_launch_deadline() -> None:
    plan = plan_claim(seen(attempt=attempt_of(InsufficientCapacity("quota"), at(1900)), now=at(1901)))
    assert condition(plan, "Launched") == ("False", "InsufficientCapacity")
    assert DeleteClaim not in kinds(plan)


def healthy(**changes: Any) -> Observed:
    return launched(**{"claim": claim(conditions=ALL_TRUE), **changes})


def test_a_node_that_stays_unready_is_repaired() -> None:
    sick = node(ready="Unknown", labels=READY_LABELS, **OWNED)
    assert plan_claim(healthy(nodes=(sick,), now=at(599))).requeue_after == 1.0
    plan = plan_claim(healthy(nodes=(sick,), now=at(600)))
    assert next(a for a in plan.actions if isinstance(a, PatchClaim | DeleteClaim)) == PatchClaim(
        {"annotations": {"karpenter.sh/nodeclaim-termination-timestamp": "2026-05-01T12:10:00Z"}}
    )
    assert DeleteClaim in kinds(plan)
    assert DeleteClaim not in kinds(plan_claim(healthy(nodes=(sick,), now=at(600), policy=Policy(repair=False))))


def test_a_node_deleted_by_hand_takes_its_claim_along() -> None:
    going = node(labels=READY_LABELS, deletionTimestamp="2026-05-01T12:00:00Z", **OWNED)
    assert DeleteClaim in kinds(plan_claim(healthy(nodes=(going,))))


def test_an_instance_deleted_by_hand_takes_its_claim_along_unless_in_doubt() -> None:
    dead = (node(ready="False", labels=READY_LABELS, **OWNED),)
    assert DeleteClaim in kinds(plan_claim(healthy(instance=None, nodes=dead)))
    assert DeleteClaim not in kinds(plan_claim(healthy(instance=None, nodes=dead, instances_known=False)))
    alive = (node(labels=READY_LABELS, **OWNED),)
    assert DeleteClaim not in kinds(plan_claim(healthy(instance=None, nodes=alive)))


def test_a_node_that_vanished_has_the_same_deadline_to_come_back() -> None:
    lost = healthy(now=at(10))
    assert condition(plan_claim(lost), "Registered") == ("Unknown", "NodeNotFound")
    assert plan_claim(lost).requeue_after == 900
    since = claim(conditions=conditions(Launched="True", Registered="Unknown"))
    assert DeleteClaim not in kinds(plan_claim(healthy(claim=since, now=at(899))))
    assert DeleteClaim in kinds(plan_claim(healthy(claim=since, now=at(900))))
