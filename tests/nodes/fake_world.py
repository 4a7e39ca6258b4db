"""A world in memory for plans to act on: one claim, its cloud, its node and pods, and time that passes in ticks.

It does what the API server, the cloud and a kubelet would do with each action. What the provisioner only remembers
(`Memory`) is lost at a crash; all else stays.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec

from kaito.api.conditions import timestamp
from kaito.api.core import Node
from kaito.api.karpenter import LABEL_INITIALIZED, ClaimStatus, NodeClaim
from kaito.nodes.codecs import Codec
from kaito.nodes.errors import ProviderError
from kaito.nodes.lifecycle.launch import attempt_of
from kaito.nodes.lifecycle.plan import plan_claim
from kaito.nodes.lifecycle.world import (
    Action,
    Announce,
    Attempt,
    BoundPod,
    CreateInstance,
    DeleteClaim,
    DeleteInstance,
    DeleteNode,
    DeletePod,
    EvictPod,
    ListInstances,
    Observed,
    PatchClaim,
    PatchNode,
    Plan,
    RememberFailure,
)
from kaito.nodes.providers.base import Instance, InstanceState
from tests.nodes.builders import NOW, TYPE, pod
from tests.nodes.world import claim_body

NAME = "ws1234"
TICK = timedelta(seconds=5)


class Crashed(Exception):
    """The provisioner died right after an effect."""


class Stale(Exception):
    """The API server refused a write that was guarded by an older version."""


@dataclass
class Memory:
    """What dies with the process."""

    view: dict[str, Instance] | None = None
    """The last list of the cloud; None before the first."""
    attempts: dict[str, Attempt] = field(default_factory=dict)


class FakeWorld:
    """`effects` counts what the provisioner has changed; it crashes after those that `crashes` names."""

    def __init__(self, codec: Codec, crashes: set[int] | None = None) -> None:
        self.codec = codec
        self.crashes = crashes or set()
        self.crash_always = False
        self.now = NOW
        self.claim: NodeClaim | None = _new_claim(codec)
        self.cloud: dict[str, Instance] = {}
        self.node: Node | None = None
        self.pods: list[BoundPod] = []
        self.effects = 0
        self.calls: Counter[str] = Counter()
        self.memory = Memory()
        self.fails_late: ProviderError | None = None
        """Befalls the next instance that would start to run."""
        self._version = 100

    def turn(self) -> None:
        """One pass of the provisioner, as far as it comes, and then one tick of everything else."""
        try:
            self._reconcile()
        except Crashed:
            self.memory = Memory()
        except Stale:
            pass
        self._tick()

    def delete_claim(self) -> None:
        if self.claim is not None and self.claim.metadata.deletionTimestamp is None:
            self._set_claim_meta(deletionTimestamp=timestamp(self.now))
            self._drop_claim_when_free()

    def is_true(self, condition: str) -> bool:
        return self.claim is not None and self.codec.decode(self.claim).is_true(condition)

    @property
    def is_empty(self) -> bool:
        return self.claim is None and self.node is None and not self.cloud and not self.pods

    def _reconcile(self) -> None:
        if self.claim is None:
            return
        seen = self._observe()
        plan = plan_claim(seen)
        for action in plan.actions:
            goes_on = self._act(action)
            self._effect(action)
            if not goes_on:
                return
        self._write_status(plan, seen)

    def _observe(self) -> Observed:
        assert self.claim is not None
        claim, view = self.codec.decode(self.claim), self.memory.view
        return Observed(
            claim=claim,
            now=self.now,
            instance=view.get(NAME) if view is not None else None,
            instances_known=view is not None,
            nodes=(self.node,) if self.node is not None else (),
            pods=tuple(self.pods) if claim.deleted_at is not None else (),
            attempt=self.memory.attempts.get(claim.uid),
        )

    def _effect(self, action: Action | str) -> None:
        if isinstance(action, ListInstances | Announce | RememberFailure):
            return  # nothing outside has changed
        self.effects += 1
        if self.crash_always or self.effects in self.crashes:
            raise Crashed

    def _act(self, action: Action) -> bool:
        match action:
            case ListInstances():
                self.memory.view = dict(self.cloud)
                return False
            case CreateInstance():
                return self._create()
            case DeleteInstance():
                return self._delete_instance()
            case RememberFailure():
                assert self.claim is not None
                self.memory.attempts[self.claim.metadata.uid] = attempt_of(action.error, self.now)
            case PatchClaim():
                self._patch_claim(action)
            case PatchNode():
                self._patch_node(action)
            case DeleteClaim():
                self.delete_claim()
            case DeleteNode():
                self._delete_node()
            case EvictPod():
                self._change_pod(action.uid, gone=False)
            case DeletePod():
                self._change_pod(action.uid, gone=True)
            case Announce():
                self.calls[action.reason] += 1
            case _:
                raise TypeError(f"no way to do {action!r}")
        return True

    def _create(self) -> bool:
        assert self.claim is not None
        self.calls["create"] += 1
        meta = self.claim.metadata
        assert NAME not in self.cloud, "a second instance of one name"
        instance = Instance(
            NAME,
            InstanceState.CREATING,
            TYPE,
            claim_kind=self.codec.kind,
            claim_uid=meta.uid,
            created_at=self.now,
        )
        self.cloud[NAME] = instance
        assert self.memory.view is not None, "created without having listed"
        self.memory.view[NAME] = instance
        return False

    def _delete_instance(self) -> bool:
        self.calls["delete"] += 1
        assert self.memory.view is not None
        if NAME not in self.cloud:
            self.memory.view.pop(NAME, None)
            return False
        self.cloud[NAME] = replace(self.cloud[NAME], state=InstanceState.DELETING)
        self.memory.view[NAME] = self.cloud[NAME]
        return True

    def _patch_claim(self, action: PatchClaim) -> None:
        if self.claim is None:
            return
        self._set_claim_meta(**action.metadata)
        self._drop_claim_when_free()

    def _set_claim_meta(self, **changes: Any) -> None:
        assert self.claim is not None
        body = _merged(msgspec.to_builtins(self.claim), {"metadata": {**changes, "resourceVersion": self._next()}})
        self.claim = msgspec.convert(body, NodeClaim)

    def _drop_claim_when_free(self) -> None:
        assert self.claim is not None
        if self.claim.metadata.deletionTimestamp is not None and not self.claim.metadata.finalizers:
            self.claim = None

    def _patch_node(self, action: PatchNode) -> None:
        if self.node is None:
            return
        if action.version and action.version != self.node.metadata.resourceVersion:
            raise Stale
        self._change_node(action.patch)
        if self.node.metadata.deletionTimestamp is not None and not self.node.metadata.finalizers:
            self.node = None

    def _change_node(self, patch: Any) -> None:
        body = _merged(msgspec.to_builtins(self.node), patch)
        body["metadata"]["resourceVersion"] = self._next()
        self.node = msgspec.convert(body, Node)

    def _delete_node(self) -> None:
        if self.node is None:
            return
        if self.node.metadata.finalizers:
            self._change_node({"metadata": {"deletionTimestamp": timestamp(self.now)}})
        else:
            self.node = None

    def _change_pod(self, uid: str, *, gone: bool) -> None:
        going = {"deletionTimestamp": timestamp(self.now)}
        self.pods = [
            msgspec.structs.replace(p, metadata=msgspec.structs.replace(p.metadata, **going))
            if p.metadata.uid == uid
            else p
            for p in self.pods
            if not (gone and p.metadata.uid == uid)
        ]

    def _write_status(self, plan: Plan, seen: Observed) -> None:
        if plan.claim is None or self.claim is None:
            return
        before = self.claim.status.conditions
        status = self.codec.encode_status(plan.claim, before, self.now)
        if before and status == self.codec.encode_status(seen.claim, before, self.now):
            return
        self.claim = msgspec.structs.replace(self.claim, status=msgspec.convert(status, ClaimStatus))
        self._set_claim_meta()
        self._effect("status")

    def _tick(self) -> None:
        """Time passes; the cloud, the kubelet and the informers each come one step further."""
        self.now += TICK
        self.pods = [p for p in self.pods if p.metadata.deletionTimestamp is None]
        self._kubelet()
        instance = self.cloud.get(NAME)
        if instance is not None and instance.state is InstanceState.DELETING:
            del self.cloud[NAME]
        elif instance is not None and instance.state is InstanceState.CREATING:
            self.cloud[NAME] = self._started(instance)
        if self.memory.view is not None:
            self.memory.view = dict(self.cloud)

    def _started(self, instance: Instance) -> Instance:
        if self.fails_late is not None:
            error, self.fails_late = self.fails_late, None
            return replace(instance, state=InstanceState.FAILED, error=error)
        return replace(instance, state=InstanceState.RUNNING, provider_id=f"fake://{NAME}")

    def _kubelet(self) -> None:
        """The node joins, is ready, shows its GPUs, gets a pod once it is initialized: one of these a tick."""
        instance = self.cloud.get(NAME)
        if instance is None or instance.state is not InstanceState.RUNNING:
            return
        if self.node is None:
            self.node = _joined(self._next())
        elif not self.node.status.conditions:
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": timestamp(self.now)}
            self._change_node({"status": {"conditions": [ready], "allocatable": {"cpu": "6"}}})
        elif "nvidia.com/gpu" not in self.node.status.allocatable:
            self._change_node({"status": {"allocatable": {"nvidia.com/gpu": "1"}}})
        elif self._takes_pods():
            self.pods = [pod()]

    def _takes_pods(self) -> bool:
        assert self.node is not None
        is_initialized = self.node.metadata.labels.get(LABEL_INITIALIZED) == "true"
        cordoned = any(t.key == "karpenter.sh/disrupted" for t in self.node.spec.taints)
        return is_initialized and not cordoned and not self.pods

    def _next(self) -> str:
        self._version += 1
        return str(self._version)


def _new_claim(codec: Codec) -> NodeClaim:
    body = claim_body(NAME, codec.resource, resources={"requests": {"nvidia.com/gpu": "1"}})
    made = {"uid": "uid-1", "generation": 1, "resourceVersion": "1", "creationTimestamp": timestamp(NOW)}
    return msgspec.convert({**body, "metadata": {**body["metadata"], **made}}, NodeClaim)


def _joined(version: str) -> Node:
    unregistered = {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}
    return msgspec.convert(
        {
            "metadata": {"name": NAME, "uid": "node-uid", "resourceVersion": version},
            "spec": {"providerID": f"fake://{NAME}", "taints": [unregistered]},
        },
        Node,
    )


def _merged(body: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict) or not isinstance(body, dict):
        return patch
    merged = {**body}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(body.get(key), value) if isinstance(value, dict) else value
    return merged
