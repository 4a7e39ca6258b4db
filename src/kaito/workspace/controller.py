"""Wires the parts: informers wake keys, and each key is observed, planned and acted on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from kaito.api.workspace import FINALIZER, Workspace
from kaito.kube.client import Client
from kaito.kube.controller import Controller
from kaito.kube.errors import ApiError, Conflict, NotFound, Throttled
from kaito.kube.events import EventRecorder, Reference
from kaito.kube.resources import WORKSPACES
from kaito.kube.store import key_of, object_key
from kaito.workspace.act import Actor
from kaito.workspace.actions import Plan, Status
from kaito.workspace.caches import Caches, about_workload, labelled_key, owner_key
from kaito.workspace.causes import ROUTINE
from kaito.workspace.observe import Observed, observe
from kaito.workspace.plan import plan
from kaito.workspace.references import ANY
from kaito.workspace.settings import Settings
from kaito.workspace.status import build_status, cause_of_refusal, is_routine_change, transitions, with_refusal

STATUS_PAUSE = 1.0
"""Seconds between two status writes of one Workspace that only say how routine work goes on."""
TOLD_STEPS = frozenset({"NodeClaimNotReady", "PreparingData", "Training", "Publishing"})
"""Of the routine steps, those that take long or cost money: people want to know when they began."""
TOLD_WITH_ALL = {"WorkspaceReady", "TuningSucceeded"}
EVENT_TYPES = {"WorkspaceReady", "TuningSucceeded", "InferenceReady", "ResourceReady"}


class WorkspaceController:
    """Reconciles Workspaces. `controller.run()` runs the workers; the caches are run by their owner."""

    def __init__(
        self,
        client: Client,
        caches: Caches,
        settings: Settings,
        *,
        workers: int = 4,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.client = client
        self._caches = caches
        self._settings = settings
        self._now = now
        self._actor = Actor(client, caches)
        self._shown_at: dict[str, float] = {}
        self._recorder = EventRecorder(client, "kaito-workspace", now)
        self.controller = Controller("workspace", self.reconcile, workers=workers)
        self._wire()

    def watch_claims(self) -> None:
        """Let changes of claims wake their Workspaces, and look at all of them once, now that claims can be made."""
        for informer in self._caches.node_objects:
            self.controller.watch(informer, owner_key)
        for key in self._caches.workspaces.store.keys():  # noqa: SIM118 - a Store is no mapping
            self.controller.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        if self._actor.is_behind(key):
            return 0.5  # the watch will wake us before; this is for a watch that is lost
        observed = observe(self._caches, key, self._now(), self._settings)
        if observed is None:
            self._shown_at.pop(key, None)
            await self._tell_orphans(key)
            return None
        decided = plan(observed)
        if decided.finalizer is True:
            await self._set_finalizer(observed, present=True)
        await self._carry_out(observed, decided)
        wait = await self._show(observed, decided.status) if decided.status is not None else None
        if decided.finalizer is False:
            await self._set_finalizer(observed, present=False)
        return min((w for w in (wait, decided.requeue_after) if w is not None), default=None)

    async def _carry_out(self, observed: Observed, decided: Plan) -> None:
        for action in decided.actions:
            try:
                await self._actor.carry_out(observed.key, action)
            except (Conflict, Throttled):
                raise
            except ApiError as error:
                if decided.status is not None:
                    what = f"{action.resource.kind} {action.name}"
                    refused = with_refusal(decided.status, cause_of_refusal(what, error))
                    await self._write_status(observed, refused)
                raise

    async def _show(self, observed: Observed, wanted: Status) -> float | None:
        """Write the status, or say in how many seconds to do so: routine steps that follow at once become one write."""
        now = asyncio.get_running_loop().time()
        due = self._shown_at.get(observed.key, -STATUS_PAUSE) + STATUS_PAUSE
        if now < due and is_routine_change(observed.workspace.status, wanted):
            return due - now
        await self._write_status(observed, wanted)
        return None

    async def _write_status(self, observed: Observed, wanted: Status) -> None:
        workspace = observed.workspace
        status = build_status(workspace, wanted, observed.now)
        if status == workspace.status:
            return
        metadata = workspace.metadata
        body = {"metadata": {"name": metadata.name}, "status": msgspec.to_builtins(status)}
        written, _ = await self.client.apply(WORKSPACES, body, metadata.namespace, subresource="status")
        self._shown_at[observed.key] = asyncio.get_running_loop().time()
        self._remember(observed.key, written)
        await self._tell(workspace, wanted)

    async def _tell_orphans(self, key: str) -> None:
        """What a Workspace that is gone left behind costs money, and only a person may know what it is for."""
        for resource, found in self._caches.orphans_of(key):
            about = Reference(resource.api_version, resource.kind, found.metadata.name, found.metadata.uid)
            hint = f"delete it if nothing uses it: kubectl delete {resource.plural} {found.metadata.name}"
            message = f"There is no Workspace {key} any more that it was made for; {hint}."
            await self._recorder.record(about, "Warning", "OrphanedNode", message)

    async def _tell(self, workspace: Workspace, wanted: Status) -> None:
        metadata = workspace.metadata
        about = Reference("kaito.sh/v1beta1", "Workspace", metadata.name, metadata.uid, metadata.namespace)
        told = set()
        changed = transitions(workspace.status.conditions, wanted.conditions)
        if any(c.type == "WorkspaceReady" and c.status == "True" for c in changed):
            # "All is ready" says it of every part.
            changed = [c for c in changed if c.status != "True" or c.type in TOLD_WITH_ALL]
        for condition in changed:
            is_good = condition.status == "True"
            is_quiet = not is_good and condition.reason in ROUTINE and condition.reason not in TOLD_STEPS
            if condition.type in EVENT_TYPES and condition.reason not in told and not is_quiet:
                told.add(condition.reason)
                type_ = "Normal" if is_good or condition.reason in ROUTINE else "Warning"
                await self._recorder.record(about, type_, condition.reason, condition.message)

    async def _set_finalizer(self, observed: Observed, *, present: bool) -> None:
        metadata = observed.workspace.metadata
        kept = [finalizer for finalizer in metadata.finalizers if finalizer != FINALIZER]
        body = {
            "metadata": {
                "finalizers": [*kept, FINALIZER] if present else kept,
                "resourceVersion": metadata.resourceVersion,
            }
        }
        if not present:
            # The status written just before has raised the version; the deletion timestamp keeps others from adding.
            del body["metadata"]["resourceVersion"]
        try:
            written = await self.client.patch(WORKSPACES, metadata.name, body, metadata.namespace)
        except NotFound:
            return
        if present:
            self._remember(observed.key, written)

    def _remember(self, key: str, written: Workspace) -> None:
        store = self._caches.workspaces.store
        store.observe_own_write(key, written.metadata.resourceVersion)
        self._actor.remember(key, store, key)

    def _wire(self) -> None:
        caches, watch = self._caches, self.controller.watch
        watch(caches.workspaces)
        for child in (caches.jobs, caches.deployments, caches.stateful_sets, caches.services, caches.configs):
            watch(child, labelled_key)
        watch(caches.pods, labelled_key)
        watch(caches.refusals, about_workload)
        watch(caches.configs, self._naming("config"))
        watch(caches.default_configs, self._defaulting)
        watch(caches.secrets, self._naming("secret"))
        watch(caches.nodes, self._of_node)

    def _naming(self, index: str) -> Callable[[Any], Iterable[str]]:
        """The Workspaces that name this ConfigMap or Secret."""

        def keys(obj: Any) -> Iterable[str]:
            return [key_of(workspace) for workspace in self._caches.workspaces.store.by_index(index, key_of(obj))]

        return keys

    def _defaulting(self, obj: Any) -> Iterable[str]:
        """The Workspaces that take their defaults from this ConfigMap of the operator's own namespace."""
        if obj.metadata.namespace != self._settings.own_namespace:
            return ()
        key = object_key(ANY, obj.metadata.name)
        return [key_of(workspace) for workspace in self._caches.workspaces.store.by_index("config", key)]

    def _of_node(self, node: Any) -> Iterable[str]:
        """The Workspace that a node was made for, or those whose selector it matches."""
        owner = list(owner_key(node))
        return owner or self._caches.selecting(node)
