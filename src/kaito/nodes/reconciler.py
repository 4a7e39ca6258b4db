"""One claim from the caches to a plan, and the plan to the API and the cloud: `observe` reads, `act` writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from kaito.api.core import Node
from kaito.api.karpenter import NodeClaim
from kaito.kube.client import Client
from kaito.kube.events import EventRecorder
from kaito.kube.informer import Informer
from kaito.kube.resources import Resource
from kaito.kube.store import split_key
from kaito.nodes import metrics
from kaito.nodes.actor import Actor, Postponed
from kaito.nodes.claim import LAUNCHED, READY, Claim, claim_key
from kaito.nodes.codecs import Codec
from kaito.nodes.instances import Instances
from kaito.nodes.lifecycle.plan import plan_claim
from kaito.nodes.lifecycle.world import Attempt, BoundPod, Observed, Plan, Policy
from kaito.nodes.providers.base import Instance, InstanceState, Provider

log = logging.getLogger(__name__)

BOUND_PODS: Resource[BoundPod] = Resource("", "v1", "pods", "Pod", True, BoundPod)


@dataclass(frozen=True)
class Caches:
    """The informers that a reconcile reads. `claims` is by kind."""

    claims: Mapping[str, Informer[NodeClaim]]
    nodes: Informer[Node]
    pods: Informer[BoundPod]

    def all(self) -> Iterable[Informer[NodeClaim] | Informer[Node] | Informer[BoundPod]]:
        return (*self.claims.values(), self.nodes, self.pods)


class Reconciler:
    def __init__(
        self,
        client: Client,
        provider: Provider,
        caches: Caches,
        codecs: Iterable[Codec],
        instances: Instances,
        policy: Policy,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._provider = provider
        self._caches = caches
        self._codecs = {codec.kind: codec for codec in codecs}
        self._instances = instances
        self._policy = policy
        self._now = now
        self._attempts: dict[str, Attempt] = {}
        """By the claim's uid, so that a new life of a name starts afresh."""
        events = EventRecorder(client, "kaito-provisioner", now)
        self._actor = Actor(client, provider, instances, caches.nodes.store, events, self._attempts, now)

    async def reconcile(self, key: str) -> float | None:
        kind, name = split_key(key)
        store = self._caches.claims[kind].store
        raw = store.get(name)
        if raw is None or not self._codecs[kind].is_managed(raw):
            self._instances.follow(key, waiting=False)
            return None
        if store.is_behind(name) or self._is_behind_on_nodes(name):
            return None  # the event that shows our own write is under way, and will wake us
        seen = self._observe(self._codecs[kind].decode(raw))
        plan = plan_claim(seen)
        self._instances.follow(key, waiting=_waits_for_cloud(seen, plan))
        codec = self._codecs[kind]
        try:
            for action in plan.actions:
                if not await self._actor.act(seen.claim, codec, store, action):
                    return 0.0  # the world is not what the plan took it for: look again
        except Postponed as postponed:
            return postponed.seconds
        if plan.claim is not None:
            await self._write_status(codec, raw, seen.claim, plan.claim)
        return plan.requeue_after

    def _observe(self, claim: Claim) -> Observed:
        instance = self._instances.get(claim.name)
        rival = self._rival(claim, instance)
        nodes = () if rival else tuple(self._caches.nodes.store.by_index("claim", claim.name))
        names = [node.metadata.name for node in nodes]
        pods = tuple(pod for name in names for pod in self._caches.pods.store.by_index("node", name))
        return Observed(
            claim=claim,
            now=self._now(),
            instance=instance,
            instances_known=self._instances.is_known(claim.name),
            list_error=self._instances.error,
            rival=rival,
            nodes=nodes,
            pods=pods if claim.deleted_at is not None else (),
            attempt=self._attempts.get(claim.uid),
            policy=self._policy,
        )

    def _rival(self, claim: Claim, instance: Instance | None) -> str:
        """The other living claim that owns the instance of this name."""
        if instance is None or not instance.claim_uid or instance.claim_uid == claim.uid:
            return ""
        for kind, informer in self._caches.claims.items():
            other = informer.store.get(claim.name)
            if other is not None and other.metadata.uid == instance.claim_uid:
                return claim_key(kind, claim.name)
        return ""

    def _is_behind_on_nodes(self, name: str) -> bool:
        store = self._caches.nodes.store
        return any(store.is_behind(node.metadata.name) for node in store.by_index("claim", name))

    async def _write_status(self, codec: Codec, raw: NodeClaim, before: Claim, after: Claim) -> None:
        status = codec.encode_status(after, raw.status.conditions, self._now())
        if status == codec.encode_status(before, raw.status.conditions, self._now()) and raw.status.conditions:
            return
        body = {"metadata": {"name": after.name}, "status": status}
        written, _ = await self._client.apply(codec.resource, body, subresource="status")
        store = self._caches.claims[codec.kind].store
        store.observe_own_write(after.name, written.metadata.resourceVersion)
        _tell_progress(before, after)


def _waits_for_cloud(seen: Observed, plan: Plan) -> bool:
    """Whether the next thing to happen to this claim is a change that only the cloud's list shows."""
    if seen.instance is None:
        return not seen.instances_known
    if seen.claim.deleted_at is not None:
        return seen.instance.state is InstanceState.DELETING
    return not seen.claim.is_true(LAUNCHED) or seen.instance.state is not InstanceState.RUNNING


def _tell_progress(before: Claim, after: Claim) -> None:
    for condition in after.conditions:
        if condition.status == "True" and not before.is_true(condition.type):
            level = logging.INFO if condition.type == READY else logging.DEBUG
            log.log(level, "condition holds", extra={"claim": after.key, "condition": condition.type})
            metrics.count_condition(after, condition.type)
