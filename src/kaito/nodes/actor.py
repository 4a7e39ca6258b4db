"""Does what a plan asks for: the only code of the provisioner that changes anything, in the API or in the cloud."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from kaito.api.core import Node
from kaito.api.karpenter import TERMINATION_FINALIZER, NodeClaim
from kaito.kube.client import Client
from kaito.kube.errors import Conflict, NotFound, Throttled
from kaito.kube.events import EventRecorder, Reference
from kaito.kube.resources import NODES, PODS
from kaito.kube.store import Store
from kaito.nodes import errors, metrics
from kaito.nodes.claim import ANNOTATION_OPERATION, Claim
from kaito.nodes.codecs import Codec
from kaito.nodes.instances import Instances
from kaito.nodes.lifecycle.launch import attempt_of
from kaito.nodes.lifecycle.world import (
    Action,
    Announce,
    Attempt,
    CreateInstance,
    DeleteClaim,
    DeleteInstance,
    DeleteNode,
    DeletePod,
    EvictPod,
    ExplainFailure,
    ListInstances,
    PatchClaim,
    PatchNode,
    RememberFailure,
)
from kaito.nodes.providers.base import InstanceState, Provider

log = logging.getLogger(__name__)


class Postponed(Exception):
    """The cloud does not do it now; look again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"look again in {seconds:g} s")
        self.seconds = seconds


class Actor:
    """`act` returns False when the plan is out of date and the claim must be looked at again."""

    def __init__(
        self,
        client: Client,
        provider: Provider,
        instances: Instances,
        nodes: Store[Node],
        events: EventRecorder,
        attempts: dict[str, Attempt],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._provider = provider
        self._instances = instances
        self._nodes = nodes
        self._events = events
        self._attempts = attempts
        self._now = now
        self._deleting_since: dict[str, datetime] = {}
        """By the claim's uid: when the deletion of its instance was first asked for."""

    async def act(self, claim: Claim, codec: Codec, claims: Store[NodeClaim], action: Action) -> bool:
        match action:
            case CreateInstance():
                return await self._create(claim, codec, claims)
            case DeleteInstance():
                return await self._delete(claim)
            case ListInstances():
                return await self._list(claim)
            case ExplainFailure():
                return await self._explain(claim)
            case RememberFailure():
                self._attempts[claim.uid] = attempt_of(action.error, self._now())
            case PatchClaim():
                return await self._patch_claim(claim, codec, claims, action)
            case PatchNode():
                return await self._patch_node(action)
            case DeleteClaim():
                log.info("claim deleted", extra={"claim": claim.key, "reason": action.reason})
                if await self._client.delete(codec.resource, claim.name, uid=claim.uid):
                    metrics.count_disrupted(claim, action.reason)
            case DeleteNode():
                if await self._client.delete(NODES, action.name, uid=action.uid):
                    metrics.count_node_gone(claim, self._now())
            case EvictPod():
                await self._evict(claim, action)
            case DeletePod():
                await self._delete_pod(action)
            case Announce():
                await self._announce(claim, action)
            case _:
                raise TypeError(f"no way to do {action!r}")
        return True

    async def _create(self, claim: Claim, codec: Codec, claims: Store[NodeClaim]) -> bool:
        self._instances.doubt(claim.name)
        try:
            instance = await self._provider.create(claim)
        except errors.ProviderError as error:
            self._attempts[claim.uid] = attempt_of(error, self._now())
            log.warning("instance not created", extra={"claim": claim.key, "reason": error.reason, "error": str(error)})
            return False
        self._attempts.pop(claim.uid, None)
        self._instances.note(instance)
        metrics.count_created(claim)
        if instance.operation:
            operation = PatchClaim({"annotations": {ANNOTATION_OPERATION: instance.operation}})
            await self._patch_claim(claim, codec, claims, operation)
        log.info("instance created", extra={"claim": claim.key, "state": instance.state.value})
        return instance.state is InstanceState.RUNNING  # its node's appearance wakes us; else tell that it is coming

    async def _delete(self, claim: Claim) -> bool:
        try:
            await self._provider.delete(claim.name)
        except errors.NotFound:
            self._instances.forget(claim.name)
            return False
        except errors.ProviderError as error:
            await self._announce(claim, Announce("Warning", "DeleteFailed", error.sentence))
            log.warning("instance not deleted", extra={"claim": claim.key, "error": error.message})
            raise Postponed(error.retry_after or 60.0) from error
        self._instances.note_deleting(claim.name)
        if claim.deleted_at is not None and claim.uid not in self._deleting_since:
            self._deleting_since[claim.uid] = self._now()
            if claim.node_name:
                metrics.count_drained(claim)
        return True

    async def _explain(self, claim: Claim) -> bool:
        """The cloud's reason joins the instance; a cloud that has none leaves us with a general one."""
        instance = self._instances.get(claim.name)
        if instance is None:
            return False
        try:
            error = await self._provider.explain(claim.name, claim.annotations.get(ANNOTATION_OPERATION, ""))
        except errors.ProviderError as unknown:
            log.warning("failure not explained", extra={"claim": claim.key, "error": unknown.message})
            raise Postponed(unknown.retry_after or 60.0) from unknown
        self._instances.note(replace(instance, error=error or _unexplained(claim)))
        return False

    async def _list(self, claim: Claim) -> bool:
        if self._instances.is_known(claim.name):
            return False
        try:
            await self._instances.refresh()
        except errors.ProviderError as error:
            log.warning("instances not listed", extra={"error": error.message})
        return False

    async def _patch_claim(self, claim: Claim, codec: Codec, claims: Store[NodeClaim], action: PatchClaim) -> bool:
        # A merge patch, not an apply: an apply would make a claim that was deleted in the meantime anew, and could not
        # take off a finalizer that another field manager had put on.
        metadata = {**action.metadata}
        if "finalizers" in metadata:
            metadata["resourceVersion"] = claim.resource_version
        try:
            patched = await self._client.patch(codec.resource, claim.name, {"metadata": metadata})
        except NotFound:
            return False
        claims.observe_own_write(claim.name, patched.metadata.resourceVersion)
        if claim.has_finalizer and TERMINATION_FINALIZER not in metadata.get("finalizers", claim.finalizers):
            metrics.count_gone(claim, self._deleting_since.pop(claim.uid, None), self._now())
        return True

    async def _patch_node(self, action: PatchNode) -> bool:
        body = {**action.patch}
        if action.version:
            body["metadata"] = {**body.get("metadata", {}), "resourceVersion": action.version}
        try:
            patched = await self._client.patch(NODES, action.name, body)
        except NotFound:
            return True
        self._nodes.observe_own_write(action.name, patched.metadata.resourceVersion)
        return True

    async def _evict(self, claim: Claim, action: EvictPod) -> None:
        path = PODS.path(action.namespace, action.name, "eviction")
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": action.name, "namespace": action.namespace},
            "deleteOptions": {"preconditions": {"uid": action.uid}},
        }
        try:
            await self._client.request("evict", "POST", path, {}, body)
        except (NotFound, Conflict):
            return  # gone, or another pod of that name by now: the watch tells
        except Throttled as refused:
            message = f"pod {action.namespace}/{action.name} may not be evicted yet: {refused.message}"
            await self._announce(claim, Announce("Warning", "DrainBlocked", message))

    async def _delete_pod(self, action: DeletePod) -> None:
        try:
            await self._client.delete(PODS, action.name, action.namespace, uid=action.uid, grace_period=action.grace)
        except Conflict:
            log.debug("pod was replaced", extra={"pod": action.name})

    async def _announce(self, claim: Claim, event: Announce) -> None:
        about = Reference(claim.api_version, claim.kind, claim.name, claim.uid)
        await self._events.record(about, event.type, event.reason, event.message)


def _unexplained(claim: Claim) -> errors.ProviderError:
    return errors.Transient(f"instance {claim.name} failed and the cloud does not say why", retry_after=60.0)
