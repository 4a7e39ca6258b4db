from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.api.core import Generic
from kaito.local.workloads.deployment import Limits, Observed, limits_of, plan_deployment
from kaito.local.workloads.plan import Create, Delete, Patch, Plan
from tests.local.workloads.builders import NOW, TEMPLATE, at, creates, deleted, meta, patches, pod, status_of

REVISION = "deployment.kubernetes.io/revision"


def template(image: str) -> dict[str, Any]:
    return {**TEMPLATE, "spec": {"containers": [{"name": "c", "image": image}]}}


def deployment(
    image: str = "v1",
    *,
    replicas: int = 3,
    strategy: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    revision: str = "1",
    **spec: Any,
) -> Generic:
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(image),
        "progressDeadlineSeconds": 600,
        **({"strategy": strategy} if strategy else {}),
        **spec,
    }
    return Generic(meta("web", generation=1, annotations={REVISION: revision}), spec, status or {})


def replica_set(image: str, replicas: int, available: int, *, revision: int = 1) -> Generic:
    labels = {"app": "web", "pod-template-hash": image}
    body = template(image)
    spec = {"replicas": replicas, "template": {**body, "metadata": {"labels": labels}}}
    status = {"replicas": replicas, "readyReplicas": available, "availableReplicas": available}
    return Generic(meta(f"web-{image}", annotations={REVISION: str(revision)}), spec, status)


def sizes(plan: Plan) -> dict[str, int]:
    """The sizes that the plan gives to ReplicaSets that are there."""
    return {p.name: p.body["spec"]["replicas"] for p in patches(plan) if "spec" in p.body}


def observed(deployment: Generic, *replica_sets: Generic, old_pods: tuple[Generic, ...] = ()) -> Observed:
    return Observed(deployment, replica_sets, old_pods, NOW)


@pytest.mark.parametrize(
    ("strategy", "replicas", "expected"),
    [
        pytest.param({}, 4, Limits(4, 1, 1), id="a quarter each by default"),
        pytest.param({}, 1, Limits(1, 1, 0), id="one pod: one more, none less"),
        pytest.param({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}, 1, Limits(1, 0, 1), id="no surge"),
        pytest.param(
            {"rollingUpdate": {"maxSurge": "30%", "maxUnavailable": "30%"}}, 10, Limits(10, 3, 3), id="percent"
        ),
        pytest.param(
            {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "5%"}}, 3, Limits(3, 0, 1), id="never stuck"
        ),
        pytest.param({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 9}}, 2, Limits(2, 1, 2), id="at most all"),
        pytest.param({"type": "Recreate"}, 2, Limits(2, 0, 2), id="recreate"),
    ],
)
def test_limits(strategy: dict[str, Any], replicas: int, expected: Limits) -> None:
    assert limits_of({"replicas": replicas, "strategy": strategy}) == expected


def test_the_first_replica_set() -> None:
    plan = plan_deployment(observed(deployment()))
    (made,) = creates(plan)
    assert made.if_absent
    hashed = made.body["metadata"]["labels"]["pod-template-hash"]
    assert made.body["metadata"]["name"] == f"web-{hashed}"
    assert made.body["metadata"]["annotations"][REVISION] == "1"
    assert made.body["spec"]["replicas"] == 3
    assert made.body["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hashed}
    assert made.body["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == hashed


@pytest.mark.parametrize(
    ("strategy", "old", "new", "expected"),
    [
        pytest.param({}, (4, 4), (0, 0), {"web-v2": 1}, id="surge first"),
        pytest.param({}, (4, 4), (1, 0), {"web-v1": 3}, id="then one fewer"),
        pytest.param({}, (3, 3), (1, 0), {"web-v2": 2}, id="room for another"),
        pytest.param({}, (3, 3), (2, 1), {"web-v1": 2}, id="one ready lets one go"),
        pytest.param({}, (1, 1), (4, 3), {"web-v1": 0}, id="the last old one"),
        pytest.param({}, (4, 1), (1, 1), {"web-v1": 2}, id="broken ones go first"),
        pytest.param(
            {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}, (4, 4), (0, 0), {"web-v1": 3}, id="no surge"
        ),
        pytest.param(
            {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}, (3, 3), (0, 0), {"web-v2": 1}, id="in turn"
        ),
        pytest.param({}, (3, 3), (2, 0), {}, id="waits for readiness"),
    ],
)
def test_a_rolling_step(
    strategy: dict[str, Any], old: tuple[int, int], new: tuple[int, int], expected: dict[str, int]
) -> None:
    world = observed(
        deployment("v2", replicas=4, strategy=strategy, revision="2"),
        replica_set("v1", *old, revision=1),
        replica_set("v2", *new, revision=2),
    )
    assert sizes(plan_deployment(world)) == expected


def test_recreate_waits_for_the_last_old_pod() -> None:
    wanted = deployment("v2", strategy={"type": "Recreate"}, revision="2")
    assert sizes(plan_deployment(observed(wanted, replica_set("v1", 3, 3)))) == {"web-v1": 0}
    emptied = replica_set("v1", 0, 0)
    leaving = pod("old", deletionTimestamp=at(-1))
    assert creates(plan_deployment(observed(wanted, emptied, old_pods=(leaving,)))) == []
    (made,) = creates(plan_deployment(observed(wanted, emptied)))
    assert made.body["spec"]["replicas"] == 3


def test_going_back_takes_the_old_replica_set_and_numbers_it_anew() -> None:
    plan = plan_deployment(
        observed(
            deployment("v1", revision="2"), replica_set("v1", 0, 0, revision=1), replica_set("v2", 3, 3, revision=2)
        )
    )
    numbered = {p.name: p.body["metadata"]["annotations"][REVISION] for p in patches(plan) if "spec" not in p.body}
    assert numbered == {"web-v1": "3", "web": "3"}
    assert creates(plan) == []


def test_history_is_kept_to_its_limit() -> None:
    old = [replica_set(f"v{n}", 0, 0, revision=n) for n in (1, 2, 3)]
    plan = plan_deployment(
        observed(deployment("v4", revision="4", revisionHistoryLimit=1), *old, replica_set("v4", 3, 3, revision=4))
    )
    assert deleted(plan) == ["web-v1", "web-v2"]


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    plan = plan_deployment(observed(deployment("v2", replicas=5, paused=True), replica_set("v1", 3, 3)))
    assert sizes(plan) == {"web-v1": 5}
    assert creates(plan) == []


def condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == type_)


def test_status_of_a_finished_rollout_and_then_quiet() -> None:
    new = replica_set("v1", 3, 3)
    status = status_of(plan_deployment(observed(deployment(), new)))
    assert {k: v for k, v in status.items() if k != "conditions"} == {
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "observedGeneration": 1,
    }
    assert condition(status, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert condition(status, "Available")["status"] == "True"
    assert plan_deployment(observed(deployment(status=status), new)).actions == ()


def test_a_rollout_that_does_not_progress_meets_its_deadline() -> None:
    stuck = replica_set("v1", 3, 0)
    first = plan_deployment(observed(deployment(), stuck))
    assert condition(status_of(first), "Progressing")["reason"] == "ReplicaSetUpdated"
    assert first.requeue_after == 600
    waiting = deployment(status={**status_of(first), "updatedReplicas": 3, "replicas": 3})
    later = Observed(waiting, [stuck], (), NOW.replace(hour=13))
    late = plan_deployment(later)
    assert condition(status_of(late), "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert condition(status_of(late), "Progressing")["status"] == "False"
    told = deployment(status={**waiting.status, **status_of(late)})
    assert plan_deployment(replace(later, deployment=told)).actions == ()


def test_time_alone_writes_nothing_before_the_deadline() -> None:
    stuck = replica_set("v1", 3, 1)
    status = {k: v for k, v in status_of(plan_deployment(observed(deployment(), stuck))).items() if v is not None}
    again = plan_deployment(Observed(deployment(status=status), [stuck], (), NOW.replace(minute=4)))
    assert again.actions == ()
    assert again.requeue_after == 360


class World:
    """ReplicaSets that do what they are told; pods become available when the test lets them."""

    def __init__(self, replicas: int, strategy: dict[str, Any]) -> None:
        self.deployment = deployment("v2", replicas=replicas, strategy=strategy, revision="2")
        self.sets = {"web-v1": replica_set("v1", replicas, replicas)}
        self.limits = limits_of(self.deployment.spec)

    def step(self) -> bool:
        plan = plan_deployment(observed(self.deployment, *self.sets.values()))
        for action in plan.actions:
            match action:
                case Create():
                    made = Generic(meta(action.body["metadata"]["name"]), action.body["spec"], {})
                    self.sets[made.metadata.name] = made
                case Patch() if "spec" in action.body:
                    rs = self.sets[action.name]
                    self.sets[action.name] = msgspec.structs.replace(rs, spec={**rs.spec, **action.body["spec"]})
                case Delete():
                    del self.sets[action.name]
        return any(isinstance(a, Create | Delete) or (isinstance(a, Patch) and "spec" in a.body) for a in plan.actions)

    def settle(self, become_ready: int) -> None:
        """Pods of each set follow its size; surplus goes at once, `become_ready` more are available."""
        for name, rs in self.sets.items():
            size = rs.spec["replicas"]
            available = min(
                size, int(rs.status.get("availableReplicas", 0)) + (become_ready if name != "web-v1" else 0)
            )
            status = {"replicas": size, "availableReplicas": available, "readyReplicas": available}
            self.sets[name] = msgspec.structs.replace(rs, status=status)

    def pods(self) -> int:
        return sum(rs.spec["replicas"] for rs in self.sets.values())

    def available(self) -> int:
        return sum(int(rs.status.get("availableReplicas", 0)) for rs in self.sets.values())


amounts = st.one_of(st.integers(0, 4), st.integers(0, 100).map(lambda n: f"{n}%"))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 9), amounts, amounts, st.integers(1, 3))
def test_every_rollout_ends_within_its_limits(replicas: int, surge: Any, unavailable: Any, pace: int) -> None:
    world = World(replicas, {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
    for _ in range(100):
        moved = world.step()
        assert world.pods() <= world.limits.most
        world.settle(0)
        assert world.available() >= world.limits.fewest_available
        if not moved and world.sets["web-v1"].spec["replicas"] == 0 and world.available() == replicas:
            break
        world.settle(pace)
    new = next(rs for name, rs in world.sets.items() if name != "web-v1")
    assert new.spec["replicas"] == replicas
    assert world.available() == replicas
