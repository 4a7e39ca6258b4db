from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.api.core import Generic
from kaito.api.meta import ObjectMeta
from kaito.local.scheduler.plan import Bind, Observed, Unschedulable, is_pending, neglected_wishes, plan_placement
from kaito.local.scheduler.requests import allocatable, pod_requests, total_requests

GPU = "nvidia.com/gpu"
SKU_TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}


def node(
    name: str = "n",
    *,
    labels: dict[str, str] | None = None,
    unschedulable: bool = False,
    taints: list[dict[str, str]] | None = None,
    **resources: str,
) -> Generic:
    offered = {"cpu": "4", "memory": "8Gi", "pods": "110", **{k.replace("gpu", GPU): v for k, v in resources.items()}}
    spec: dict[str, Any] = {"taints": taints or [], "unschedulable": unschedulable}
    return Generic(ObjectMeta(name=name, labels=labels or {}), spec, {"allocatable": offered})


def pod(*, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **spec: Any) -> Generic:
    resources = {"requests": requests or {}, "limits": limits or {}}
    body = {"containers": [{"name": "c", "resources": resources}], **spec}
    return Generic(ObjectMeta(name="p", namespace="default", uid="u"), body, {})


def place(pod: Generic, *nodes: Generic, used: dict[str, list[Generic]] | None = None) -> str:
    """The node's name, or the message."""
    totals = {name: total_requests(pods) for name, pods in (used or {}).items()}
    decision = plan_placement(Observed(pod, nodes, totals))
    return decision.node if isinstance(decision, Bind) else decision.message


def affinity(*expressions: dict[str, Any], fields: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    term = {"matchExpressions": list(expressions), "matchFields": list(fields)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


LABELLED = node(labels={"sku": "a100", "gpus": "8"})
NO_MATCH = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."


@pytest.mark.parametrize(
    ("wish", "fits"),
    [
        pytest.param({"nodeSelector": {"sku": "a100"}}, True, id="selector"),
        pytest.param({"nodeSelector": {"sku": "h100"}}, False, id="another value"),
        pytest.param({"affinity": affinity(expression("sku", "In", "a100", "h100"))}, True, id="In"),
        pytest.param({"affinity": affinity(expression("sku", "In", "h100"))}, False, id="not In"),
        pytest.param({"affinity": affinity(expression("sku", "NotIn", "h100"))}, True, id="NotIn"),
        pytest.param({"affinity": affinity(expression("other", "NotIn", "x"))}, True, id="NotIn without the label"),
        pytest.param({"affinity": affinity(expression("sku", "NotIn", "a100"))}, False, id="excluded"),
        pytest.param({"affinity": affinity(expression("sku", "Exists"))}, True, id="Exists"),
        pytest.param({"affinity": affinity(expression("other", "Exists"))}, False, id="does not exist"),
        pytest.param({"affinity": affinity(expression("other", "DoesNotExist"))}, True, id="DoesNotExist"),
        pytest.param({"affinity": affinity(expression("gpus", "Gt", "7"))}, True, id="Gt"),
        pytest.param({"affinity": affinity(expression("gpus", "Gt", "8"))}, False, id="not greater"),
        pytest.param({"affinity": affinity(expression("gpus", "Lt", "9"))}, True, id="Lt"),
        pytest.param({"affinity": affinity(expression("sku", "Gt", "1"))}, False, id="no number"),
        pytest.param({"affinity": affinity(fields=(expression("metadata.name", "In", "n"),))}, True, id="by name"),
        pytest.param(
            {"affinity": affinity(fields=(expression("metadata.name", "In", "m"),))}, False, id="another name"
        ),
        pytest.param({"affinity": affinity()}, False, id="an empty term matches nothing"),
        pytest.param(
            {"affinity": affinity(expression("sku", "Exists"), expression("x", "Exists"))}, False, id="all of them"
        ),
    ],
)
def test_which_nodes_a_pod_asks_for(wish: dict[str, Any], fits: bool) -> None:
    assert place(pod(**wish), LABELLED) == ("n" if fits else NO_MATCH)


@pytest.mark.parametrize(
    ("tolerations", "fits"),
    [
        pytest.param([], False, id="none"),
        pytest.param([{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}], True, id="equal"),
        pytest.param([{"key": "sku", "value": "gpu"}], True, id="any effect"),
        pytest.param([{"key": "sku", "value": "cpu"}], False, id="another value"),
        pytest.param([{"key": "sku", "operator": "Exists"}], True, id="exists"),
        pytest.param([{"operator": "Exists"}], True, id="everything"),
        pytest.param([{"key": "sku", "operator": "Exists", "effect": "NoExecute"}], False, id="another effect"),
    ],
)
def test_taints(tolerations: list[dict[str, str]], fits: bool) -> None:
    refused = "0/1 nodes are available: 1 node(s) had untolerated taint {sku: gpu}."
    assert place(pod(tolerations=tolerations), node(taints=[SKU_TAINT])) == ("n" if fits else refused)


def test_the_message_counts_each_reason() -> None:
    message = place(pod(requests={GPU: "1", "cpu": "8"}), node("a", taints=[SKU_TAINT]), node("b"), node("c", gpu="1"))
    told = f"1 Insufficient {GPU}, 1 node(s) had untolerated taint {{sku: gpu}}, 2 Insufficient cpu"
    assert message == f"0/3 nodes are available: {told}."


@pytest.mark.parametrize(
    ("world", "message"),
    [
        pytest.param([], "no nodes available to schedule pods", id="no nodes"),
        pytest.param(
            [node(unschedulable=True)], "0/1 nodes are available: 1 node(s) were unschedulable.", id="cordoned"
        ),
        pytest.param([node(pods="0")], "0/1 nodes are available: 1 Too many pods.", id="full"),
    ],
)
def test_other_refusals(world: list[Generic], message: str) -> None:
    assert place(pod(), *world) == message


def test_what_is_used_counts() -> None:
    holder = pod(limits={GPU: "1"})
    assert place(pod(requests={GPU: "1"}), node(gpu="1")) == "n"
    assert "Insufficient nvidia.com/gpu" in place(pod(requests={GPU: "1"}), node(gpu="1"), used={"n": [holder]})


def test_pods_spread_over_what_is_least_used_and_ties_go_by_name() -> None:
    busy = [pod(requests={"cpu": "2"})]
    assert place(pod(requests={"cpu": "1"}), node("a"), node("b"), used={"a": busy}) == "b"
    assert place(pod(requests={"cpu": "1"}), node("b"), node("a")) == "a"


def test_preferences_come_before_room() -> None:
    preferred = [{"weight": 5, "preference": {"matchExpressions": [expression("disk", "In", "ssd")]}}]
    wish = pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    busy = [pod(requests={"cpu": "3"})]
    assert place(wish, node("a", labels={"disk": "ssd"}), node("b"), used={"a": busy}) == "a"


def test_gates_hold_a_pod() -> None:
    decision = plan_placement(Observed(pod(schedulingGates=[{"name": "wait"}]), [node()]))
    assert isinstance(decision, Unschedulable)
    assert decision.reason == "SchedulingGated"


def container(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        pytest.param({"containers": [container("1"), container("500m")]}, "1.5", id="containers add up"),
        pytest.param({"containers": [container("1")], "initContainers": [container("3")]}, "3", id="the larger init"),
        pytest.param(
            {"containers": [container("2")], "initContainers": [container("1"), container("1")]}, "2", id="init in turn"
        ),
        pytest.param(
            {
                "containers": [container("1")],
                "initContainers": [container("1", restartPolicy="Always"), container("2")],
            },
            "3",
            id="a sidecar runs beside later inits",
        ),
        pytest.param(
            {"containers": [container("2")], "initContainers": [container("1", restartPolicy="Always")]},
            "3",
            id="sidecar",
        ),
        pytest.param({"containers": [container("1")], "overhead": {"cpu": "250m"}}, "1.25", id="overhead"),
    ],
)
def test_requests(spec: dict[str, Any], cpu: str) -> None:
    assert pod_requests(pod(**spec))["cpu"] == Decimal(cpu)


def test_a_limit_is_a_request_where_there_is_none() -> None:
    needs = pod_requests(pod(requests={"cpu": "1"}, limits={"cpu": "2", GPU: "1"}))
    assert needs == {"cpu": Decimal(1), GPU: Decimal(1), "pods": Decimal(1)}


@pytest.mark.parametrize(
    ("spec", "status", "pending"),
    [
        ({}, {}, True),
        ({"nodeName": "n"}, {}, False),
        ({}, {"phase": "Failed"}, False),
        ({"schedulerName": "other"}, {}, False),
    ],
)
def test_whose_turn_it_is(spec: dict[str, Any], status: dict[str, Any], pending: bool) -> None:
    assert is_pending(Generic(ObjectMeta(name="p"), spec, status)) is pending


def test_what_is_not_looked_at_is_named() -> None:
    wish = pod(affinity={"podAntiAffinity": {"x": 1}}, topologySpreadConstraints=[{"maxSkew": 1}])
    assert neglected_wishes(wish) == ["podAntiAffinity", "topologySpreadConstraints"]


sizes = st.integers(1, 4000).map(lambda n: f"{n}m")


@settings(max_examples=100, deadline=None)
@given(st.lists(sizes, max_size=12), st.lists(sizes, min_size=1, max_size=3))
def test_no_node_is_ever_given_more_than_it_has(asked: list[str], offered: list[str]) -> None:
    nodes = [node(f"n{i}", cpu=cpu) for i, cpu in enumerate(offered)]
    placed: dict[str, list[Generic]] = {n.metadata.name: [] for n in nodes}
    for cpu in asked:
        wish = pod(requests={"cpu": cpu})
        used = {name: total_requests(pods) for name, pods in placed.items()}
        decision = plan_placement(Observed(wish, nodes, used))
        if isinstance(decision, Bind):
            placed[decision.node].append(wish)
    for one in nodes:
        assert total_requests(placed[one.metadata.name]).get("cpu", Decimal(0)) <= allocatable(one)["cpu"]
