"""The controllers of Deployments, ReplicaSets and Jobs: observe from the informers, plan, and let the writer act.

All have one shape: an object, the objects that it controls, a pure planner. A key whose last writes are not yet in the
cache is left until they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from kaito.api.core import Generic
from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.events import EventRecorder
from kaito.kube.informer import Informer
from kaito.kube.resources import Resource
from kaito.kube.store import key_of, object_key
from kaito.local.workloads import deployment, job, replica_set, stateful_set
from kaito.local.workloads.adoption import plan_claims, selects
from kaito.local.workloads.announcer import Announcer
from kaito.local.workloads.informers import Informers
from kaito.local.workloads.objects import controller_uid, is_active
from kaito.local.workloads.plan import Delete, Patch, Plan
from kaito.local.workloads.resources import CLAIMS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, REVISIONS, STATEFUL_SETS
from kaito.local.workloads.tally import TallyBook
from kaito.local.workloads.writer import Writer, reference

Clock = Callable[[], datetime]

LOOK_AGAIN = 1.0
"""Seconds until a key is looked at again whose own writes are not seen yet; their events nearly always come first."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class World:
    """What the controllers of this room share."""

    def __init__(self, client: Client, informers: Informers, now: Clock = utc_now) -> None:
        self.client = client
        self.informers = informers
        self.announcer = Announcer(EventRecorder(client, "kaito-workloads", now))
        self.now = now

    def children(self, resource: Resource[Generic], owner: Generic) -> list[Generic]:
        """The objects of a kind that `owner` controls."""
        return self.informers.of(resource).store.by_index("controller", owner.metadata.uid)

    def orphans(self, resource: Resource[Generic], namespace: str) -> list[Generic]:
        """The objects of a kind in a namespace that nobody controls."""
        found = self.informers.of(resource).store.by_index("namespace", namespace)
        return [obj for obj in found if not controller_uid(obj.metadata)]

    def writer(self) -> Writer:
        return Writer(self.client, self.informers, self.announcer)


class OwnerController:
    """Reconciles one kind by `plan`, and wakes on changes of the kinds that it controls."""

    def __init__(
        self,
        world: World,
        resource: Resource[Generic],
        children: Iterable[Resource[Any]],
        plan: Callable[[Generic], Plan],
        *,
        claimed: Resource[Any],
        may_claim: Callable[[Generic, Generic], bool] = lambda _owner, _child: True,
    ) -> None:
        """`claimed` is the kind of which it takes up orphans that it selects, those of them that it `may_claim`."""
        self._world = world
        self._claimed = claimed
        self._may_claim = may_claim
        self._resource = resource
        self._store = world.informers.of(resource).store
        self._writer = world.writer()
        self._plan = plan
        self.controller = Controller(resource.plural, self.reconcile)
        self.controller.watch(world.informers.of(resource))
        for child in children:
            self.controller.watch(world.informers.of(child), owners_of_kind(resource))
        self.controller.watch(world.informers.of(claimed), self._claimants)

    def _claimants(self, child: Any) -> Iterable[str]:
        """The owners that may take the child up, which nobody controls."""
        if controller_uid(child.metadata):
            return ()
        owners = self._store.by_index("namespace", child.metadata.namespace)
        return [key_of(owner) for owner in owners if selects(owner, child) and self._may_claim(owner, child)]

    def _claims(self, owner: Generic) -> tuple[Patch, ...]:
        orphans = self._world.orphans(self._claimed, owner.metadata.namespace)
        mine = [child for child in orphans if self._may_claim(owner, child)]
        return plan_claims(self._resource, owner, self._claimed, self._world.children(self._claimed, owner), mine)

    async def reconcile(self, key: str) -> float | None:
        obj = self._store.get(key)
        if obj is None:
            return None
        if self._store.is_behind(key) or self._writer.is_behind(key):
            return LOOK_AGAIN
        claims = self._claims(obj)
        if claims:  # what belongs to it is settled before anything is counted
            await self._writer.act(key, reference(self._resource, obj.metadata), Plan(claims))
            return LOOK_AGAIN
        plan = self._plan(obj)
        await self._writer.act(key, reference(self._resource, obj.metadata), plan)
        return plan.requeue_after


def owners_of_kind(resource: Resource[Any]) -> Callable[[Any], Iterable[str]]:
    """Maps an object to the key of its controller, when that is of this kind."""

    def keys(obj: Any) -> Iterable[str]:
        for owner in obj.metadata.ownerReferences:
            if owner.controller and owner.kind == resource.kind and owner.apiVersion == resource.api_version:
                yield object_key(obj.metadata.namespace, owner.name)

    return keys


def replica_set_controller(world: World) -> Controller:
    def plan(obj: Generic) -> Plan:
        return replica_set.plan_replica_set(replica_set.Observed(obj, world.children(PODS, obj), world.now()))

    def may_claim(_owner: Generic, pod: Generic) -> bool:
        return is_active(pod)

    return OwnerController(world, REPLICA_SETS, [PODS], plan, claimed=PODS, may_claim=may_claim).controller


def deployment_controller(world: World) -> Controller:
    def plan(obj: Generic) -> Plan:
        replica_sets = world.children(REPLICA_SETS, obj)
        new = deployment.find_new(obj, replica_sets)
        old_pods = [pod for rs in replica_sets if rs is not new for pod in world.children(PODS, rs)]
        return deployment.plan_deployment(deployment.Observed(obj, replica_sets, old_pods, world.now()))

    owner = OwnerController(world, DEPLOYMENTS, [REPLICA_SETS], plan, claimed=REPLICA_SETS)
    _wake_recreating(world, owner.controller)
    return owner.controller


def _wake_recreating(world: World, controller: Controller) -> None:
    """A `Recreate` rollout goes on when the last old pod is gone, which changes no ReplicaSet."""
    replica_sets = world.informers.of(REPLICA_SETS).store
    deployment_of, replica_set_of = owners_of_kind(DEPLOYMENTS), owners_of_kind(REPLICA_SETS)

    def pod_changed(old: Generic | None, new: Generic | None) -> None:
        if old is None or (new is not None and is_active(new)):
            return
        for key in replica_set_of(old):
            owner = replica_sets.get(key)
            if owner is not None:
                for deployment_key in deployment_of(owner):
                    controller.queue.add(deployment_key)

    world.informers.of(PODS).listen(pod_changed)


def job_controller(world: World) -> Controller:
    book = TallyBook()
    jobs: Informer[Generic] = world.informers.of(JOBS)
    keys = owners_of_kind(JOBS)

    def plan(obj: Generic) -> Plan:
        pods = world.children(PODS, obj)
        decided = job.plan_job(job.Observed(obj, pods, book.tally(obj, pods), world.now()))
        doomed = frozenset(action.uid for action in decided.actions if isinstance(action, Delete))
        if doomed:
            book.excuse(obj.metadata.uid, doomed)
        return decided

    def pod_changed(old: Generic | None, new: Generic | None) -> None:
        if old is not None and new is None and controller_uid(old.metadata):
            for key in keys(old):
                book.count_gone(jobs.store.get(key), old)

    def job_changed(old: Generic | None, new: Generic | None) -> None:
        if old is not None and new is None:
            book.forget(old.metadata.uid)

    world.informers.of(PODS).listen(pod_changed)  # Before the controller's own listener: first count, then plan.
    jobs.listen(job_changed)
    return OwnerController(world, JOBS, [PODS], plan, claimed=PODS).controller


def stateful_set_controller(world: World) -> Controller:
    claims = world.informers.of(CLAIMS).store

    def plan(obj: Generic) -> Plan:
        revisions = world.informers.of(REVISIONS).store.by_index("controller", obj.metadata.uid)
        names = frozenset(claim.metadata.name for claim in claims.by_index("namespace", obj.metadata.namespace))
        pods = world.children(PODS, obj)
        return stateful_set.plan_stateful_set(stateful_set.Observed(obj, pods, revisions, names, world.now()))

    def may_claim(owner: Generic, pod: Generic) -> bool:
        name, _, ordinal = pod.metadata.name.rpartition("-")
        return name == owner.metadata.name and ordinal.isdigit()

    return OwnerController(world, STATEFUL_SETS, [PODS, REVISIONS], plan, claimed=PODS, may_claim=may_claim).controller
