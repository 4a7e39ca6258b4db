"""The simulated cloud itself: instances by name, states that follow each other in time, faults that strike.

It knows nothing of Kubernetes. It outlives a provisioner that is restarted in the same process, as a real cloud does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kaito.nodes.claim import Claim
from kaito.nodes.errors import (
    Busy,
    ConfigError,
    InsufficientCapacity,
    InvalidSpec,
    NotFound,
    ProviderError,
    Transient,
)
from kaito.nodes.providers.base import Instance, InstanceState
from kaito.nodes.providers.simulated.scenario import CALM, ON_CREATE, ON_INSTANCE, Fault, FaultRule, Scenario
from kaito.nodes.providers.types import choose_instance_type

PREFIX = "simulated://"


@dataclass(frozen=True)
class Machine:
    """An instance, and the fault that it drew, if any."""

    instance: Instance
    fault: FaultRule | None = None


class SimulatedCloud:
    """`calls` counts what was asked of it, by verb."""

    def __init__(self, scenario: Scenario = CALM, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.scenario = scenario
        self.calls: Counter[str] = Counter()
        self._now = now
        self._machines: dict[str, Machine] = {}
        self._struck: Counter[int] = Counter()
        self._began: float | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changed: Callable[[str], None] = lambda name: None

    def listen(self, changed: Callable[[str], None]) -> None:
        """Tell of every machine that starts to run or goes: the kubelets' view, not the provisioner's."""
        self._changed = changed

    def machine(self, name: str) -> Machine | None:
        return self._machines.get(name)

    def machines(self) -> list[Machine]:
        return list(self._machines.values())

    def create(self, claim: Claim) -> Instance:
        """Accept, or fail as the scenario says. A second create of one name gives the instance of the first."""
        self.calls["create"] += 1
        kind = choose_instance_type(claim)
        known = self._machines.get(claim.name)
        if known is not None:
            return known.instance
        rule = self._strike(ON_CREATE, kind.name)
        if rule is not None:
            raise create_error(rule, kind.name)
        instance = Instance(
            name=claim.name,
            state=InstanceState.CREATING,
            instance_type=kind.name,
            claim_kind=claim.kind,
            claim_uid=claim.uid,
            created_at=self._now(),
        )
        machine = Machine(instance, self._strike(ON_INSTANCE, kind.name))
        self._machines[claim.name] = machine
        if machine.fault is None or machine.fault.fault is not Fault.STUCK:
            self._later(claim.name, "create", self._start)
        return instance

    def recover(self, instance: Instance) -> None:
        """Take over a running instance that a former process had made."""
        if instance.name not in self._machines:
            self._machines[instance.name] = Machine(instance)
            self._changed(instance.name)

    def get(self, name: str) -> Instance:
        self.calls["get"] += 1
        return self._known(name).instance

    def list(self) -> list[Instance]:
        self.calls["list"] += 1
        if self._strike({Fault.LIST_FAILS}, "") is not None:
            raise Transient("the list broke off after the first page", reason="ListFailed")
        return [machine.instance for machine in self._machines.values()]

    def delete(self, name: str) -> None:
        self.calls["delete"] += 1
        machine = self._known(name)
        if machine.instance.state is InstanceState.DELETING:
            return
        self._set(machine, state=InstanceState.DELETING)
        self._later(name, "delete", self.vanish)

    def vanish(self, name: str) -> None:
        """The machine is gone: deleted, reclaimed, or dead."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if self._machines.pop(name, None) is not None:
            self._changed(name)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _start(self, name: str) -> None:
        machine = self._machines[name]
        if machine.fault is not None and machine.fault.fault is Fault.FAILS_LATE:
            kind = machine.instance.instance_type
            error = InsufficientCapacity(
                f"the cloud took the order for {name} and then found no machine of type {kind}",
                reason="ZonalAllocationFailed",
                hint="ask for another zone or instance type",
                retry_after=30.0,
            )
            self._set(machine, state=InstanceState.FAILED, error=error)
            return
        self._set(machine, state=InstanceState.RUNNING, provider_id=f"{PREFIX}{name}")
        self._changed(name)

    def _set(self, machine: Machine, **changes: object) -> None:
        name = machine.instance.name
        self._machines[name] = replace(machine, instance=replace(machine.instance, **changes))  # type: ignore[arg-type]  # fields of Instance

    def _known(self, name: str) -> Machine:
        machine = self._machines.get(name)
        if machine is None:
            raise NotFound(f"the simulated cloud has no instance {name}")
        return machine

    def _later(self, name: str, what: str, step: Callable[[str], None]) -> None:
        old = self._timers.pop(name, None)
        if old is not None:
            old.cancel()
        seconds = self.scenario.draw(name, getattr(self.scenario.delays, what), what)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, step, name)

    def _strike(self, among: frozenset[Fault] | set[Fault], instance_type: str) -> FaultRule | None:
        """The first rule that strikes now; it is used up once more."""
        for index, rule in enumerate(self.scenario.faults):
            if rule.fault not in among or (rule.instance_type and rule.instance_type != instance_type):
                continue
            if (rule.times and self._struck[index] >= rule.times) or not self._is_time(rule):
                continue
            self._struck[index] += 1
            return rule
        return None

    def _is_time(self, rule: FaultRule) -> bool:
        if rule.fault in ON_INSTANCE:
            return True  # its `after` counts from the node's own readiness
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        elapsed = now - self._began
        return rule.after <= elapsed and (not rule.lasts or elapsed < rule.after + rule.lasts)


def create_error(rule: FaultRule, kind: str) -> ProviderError:
    """What the cloud answers to a create that the rule lets fail."""
    match rule.fault:
        case Fault.QUOTA:
            return InsufficientCapacity(
                f"{kind} exceeds the subscription's quota: limit 24, in use 24, needed 24",
                reason="SubscriptionQuotaReached",
                hint="ask for a quota of 48 cores, or take a smaller instance type",
                retry_after=30.0,
            )
        case Fault.NO_CAPACITY:
            return InsufficientCapacity(
                f"no machine of type {kind} is free in this zone", reason="ZonalAllocationFailed", retry_after=30.0
            )
        case Fault.NOT_OFFERED:
            return InsufficientCapacity(
                f"{kind} is not offered in this region", reason="SkuNotAvailable", retry_after=3600.0
            )
        case Fault.INVALID:
            return InvalidSpec(f"the cloud refuses the specification of {kind}")
        case Fault.BUSY:
            return Busy("another operation on the cluster is under way", retry_after=1.0)
        case Fault.UNAUTHORIZED:
            return ConfigError("the provisioner may not create instances", reason="AuthorizationFailed")
        case _:
            return Transient("the cloud's API throttles", reason="Throttled", retry_after=max(1.0, rule.lasts))
