"""Draining and letting go, as tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kaito.api.karpenter import TERMINATION_FINALIZER, Taint
from kaito.api.meta import OwnerReference
from kaito.nodes.errors import ConfigError
from kaito.nodes.lifecycle.drain import is_drainable
from kaito.nodes.lifecycle.plan import plan_claim
from kaito.nodes.lifecycle.world import (
    DeleteInstance,
    DeleteNode,
    DeletePod,
    EvictPod,
    ListInstances,
    Observed,
    PatchClaim,
    PatchNode,
    Plan,
    Toleration,
)
from kaito.nodes.providers.base import InstanceState
from tests.nodes.builders import NOW, SKU, at, claim, instance, node, pod, seen

DISRUPTED = Taint("karpenter.sh/disrupted", "NoSchedule")
LET_GO = PatchClaim({"finalizers": []})
DAEMON = [OwnerReference("apps/v1", "DaemonSet", "plugin", "d")]


def deleted(**changes: Any) -> Observed:
    gone = claim(deleted_at=NOW, **changes.pop("claim", {}))
    return seen(**{"claim": gone, "instance": instance(), **changes})


def cordoned(**meta: Any) -> Any:
    labels = {"node.kubernetes.io/exclude-from-external-load-balancers": "karpenter"}
    return node(taints=(SKU, DISRUPTED), labels=labels, finalizers=[TERMINATION_FINALIZER], **meta)


def evicted(plan: Plan) -> list[str]:
    return [action.name for action in plan.actions if isinstance(action, EvictPod)]


def test_nothing_to_do_without_the_finalizer() -> None:
    assert plan_claim(deleted(claim={"finalizers": ()})).actions == ()


def test_the_node_is_cordoned_and_pods_are_evicted_before_the_machine_goes() -> None:
    plan = plan_claim(deleted(nodes=(node(),), pods=(pod(),)))
    assert isinstance(plan.actions[0], PatchNode)
    assert plan.actions[0].patch["spec"]["taints"][-1] == {"key": DISRUPTED.key, "effect": "NoSchedule"}
    assert plan.actions[1:] == (EvictPod("default", "server", "uid-server"),)
    assert plan.claim is None


def test_a_drained_machine_is_deleted() -> None:
    plan = plan_claim(deleted(nodes=(cordoned(),), pods=(pod(phase="Succeeded"),)))
    assert plan.actions == (DeleteInstance(),)


@pytest.mark.parametrize("state", [InstanceState.CREATING, InstanceState.FAILED])
def test_an_instance_without_a_node_is_deleted_in_any_state(state: InstanceState) -> None:
    assert plan_claim(deleted(instance=instance(state=state))).actions == (DeleteInstance(),)


def test_a_deletion_is_asked_for_once() -> None:
    assert plan_claim(deleted(instance=instance(state=InstanceState.DELETING))).actions == ()


def test_when_the_machine_is_gone_its_pods_and_node_go_and_the_claim_last() -> None:
    plan = plan_claim(deleted(instance=None, nodes=(cordoned(),), pods=(pod(),)))
    assert plan.actions == (
        DeletePod("default", "server", "uid-server", 0),
        PatchNode("ws1234", "20", {"metadata": {"finalizers": []}}),
        DeleteNode("ws1234", "node-uid"),
        LET_GO,
    )


def test_a_node_that_is_already_being_deleted_is_only_let_go() -> None:
    going = cordoned(deletionTimestamp="2026-05-01T12:00:00Z")
    assert [type(a) for a in plan_claim(deleted(instance=None, nodes=(going,))).actions] == [PatchNode, PatchClaim]


def test_the_claim_is_not_let_go_while_the_cloud_is_unknown() -> None:
    assert plan_claim(deleted(instance=None, instances_known=False)).actions == (ListInstances(),)
    blind = plan_claim(deleted(instance=None, instances_known=False, list_error=ConfigError("401")))
    assert blind.actions == () and blind.requeue_after


def test_another_claims_instance_is_left_alone() -> None:
    plan = plan_claim(deleted(instance=instance(claim_uid="other"), rival="Machine/ws1234"))
    assert plan.actions == (LET_GO,)


def test_groups_go_one_after_the_other() -> None:
    critical = {"spec": {"priorityClassName": "system-node-critical"}}
    ordinary, daemon = pod("a"), pod("b", ownerReferences=DAEMON)
    vital, vital_daemon = pod("c", **critical), pod("d", ownerReferences=DAEMON, **critical)
    left = [ordinary, daemon, vital, vital_daemon]
    order = []
    while left:
        order.append(evicted(plan_claim(deleted(nodes=(cordoned(),), pods=tuple(left)))))
        left = left[1:]
    assert order == [["a"], ["b"], ["c"], ["d"]]


def test_pods_that_terminate_are_waited_for_and_not_evicted_twice() -> None:
    leaving = pod(deletionTimestamp="2026-05-01T12:00:00Z")
    plan = plan_claim(deleted(nodes=(cordoned(),), pods=(leaving,), now=at(30)))
    assert plan.actions == () and plan.requeue_after
    stuck = plan_claim(deleted(nodes=(cordoned(),), pods=(leaving,), now=at(61)))
    assert stuck.actions == (DeleteInstance(),)


def test_a_pod_that_must_not_be_disturbed_holds_the_drain() -> None:
    quiet = pod(annotations={"karpenter.sh/do-not-disrupt": "true"})
    plan = plan_claim(deleted(nodes=(cordoned(),), pods=(quiet,)))
    assert plan.actions == () and plan.requeue_after


DRAINABLE: list[Any] = [
    pytest.param(pod(), True, id="running"),
    pytest.param(pod(phase="Succeeded"), False, id="succeeded"),
    pytest.param(pod(phase="Failed"), False, id="failed"),
    pytest.param(pod(annotations={"kubernetes.io/config.mirror": "x"}), False, id="mirror"),
    pytest.param(pod(spec={"tolerations": [Toleration(operator="Exists")]}), False, id="tolerates all"),
    pytest.param(
        pod(spec={"tolerations": [Toleration(key="karpenter.sh/disrupted", operator="Exists")]}), False, id="tolerates"
    ),
    pytest.param(
        pod(spec={"tolerations": [Toleration(key="sku", value="gpu", effect="NoSchedule")]}), True, id="tolerates other"
    ),
]


@pytest.mark.parametrize(("present", "drainable"), DRAINABLE)
def test_which_pods_a_drain_waits_for(present: Any, drainable: bool) -> None:
    assert is_drainable(present, NOW) is drainable


def test_the_end_of_patience() -> None:
    world = {"claim": {"grace": timedelta(minutes=2)}, "nodes": (cordoned(),), "pods": (pod(),)}
    first = plan_claim(deleted(**world))
    until = "2026-05-01T12:02:00Z"
    assert first.actions[0] == PatchClaim({"annotations": {"karpenter.sh/nodeclaim-termination-timestamp": until}})
    assert evicted(first) == ["server"]
    annotated = {"grace": timedelta(minutes=2), "annotations": {"karpenter.sh/nodeclaim-termination-timestamp": until}}
    late = plan_claim(deleted(**{**world, "claim": annotated, "now": at(95)}))
    assert late.actions == (DeletePod("default", "server", "uid-server", 25),)
    over = plan_claim(deleted(**{**world, "claim": annotated, "now": at(120)}))
    assert over.actions == (DeleteInstance(),)
