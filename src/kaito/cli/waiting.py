"""Waiting: until a condition is True, until an object is gone; and what a Workspace's pods say meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from kaito.api.core import Pod
from kaito.api.meta import Condition
from kaito.api.workspace import LABEL_WORKSPACE
from kaito.cli.discovery import Kind, kinds_for, named
from kaito.cli.errors import CommandError, TimedOut, UsageError
from kaito.cli.objects import Wanted, follow_object, not_found
from kaito.kube.client import Client
from kaito.kube.errors import NotFound
from kaito.kube.resources import PODS, WORKSPACES

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
FINAL_STATES = ("Failed",)
FINAL_REASONS = ("InvalidSpec",)

NO_OPERATOR = "no operator has looked at it; is one running? `kubectl get pods -n kaito-system`"

OnChange = Callable[[dict[str, Any]], None]


def condition_of(obj: dict[str, Any], type_: str) -> Condition | None:
    found = msgspec.convert(obj.get("status", {}).get("conditions") or [], list[Condition])
    return next((one for one in found if one.type.lower() == type_.lower()), None)


async def wait_for(
    client: Client,
    namespace: str,
    word: str,
    name: str,
    *,
    condition: str,
    patience: float,
    on_change: OnChange,
    value: str = "True",
) -> str:
    """Wait until a condition has a value, or with condition "delete" until the object is gone.

    Returns what came true, as kubectl words it.
    Raises TimedOut with the condition's reason and message; CommandError when the object goes away meanwhile, or when
    a Workspace says that nothing more will come of it until somebody changes it.
    """
    kind = named(await kinds_for(client, [word]), word)
    if condition == "delete":
        await wait_gone(client, namespace, [Wanted(kind, name)], patience=patience, on_change=on_change)
        return f"{kind.title(name)} deleted"
    last: dict[str, Any] | None = None
    try:
        async with asyncio.timeout(patience):
            async with aclosing(follow_object(client, kind, namespace, name)) as states:
                async for obj in states:
                    if obj is None:
                        raise await _absent(client, kind, namespace, name, last)
                    last = obj
                    on_change(obj)
                    found = condition_of(obj, condition)
                    if found is not None and found.status.lower() == value.lower():
                        return f"{kind.title(name)} condition met"
                    if value == "True":
                        _raise_if_final(obj, kind.title(name), found)
    except TimeoutError:
        hint = f"`kaito explain {name}` shows the way down to the cause" if _is_workspace(kind) else ""
        raise TimedOut(_why_not(kind.title(name), condition, last, patience), hint) from None
    raise AssertionError("an object is followed until it is cancelled")


async def wait_gone(
    client: Client, namespace: str, wanted: list[Wanted], *, patience: float, on_change: OnChange
) -> None:
    """Wait until objects are gone. Raises TimedOut that names what holds the first that stays."""
    last: dict[str, Any] | None = None
    try:
        async with asyncio.timeout(patience):
            for one in wanted:
                async with aclosing(follow_object(client, one.kind, namespace, one.name)) as states:
                    async for obj in states:
                        if obj is None:
                            break
                        last = obj
                        on_change(obj)
    except TimeoutError:
        held = ", ".join((last or {}).get("metadata", {}).get("finalizers", [])) or "nothing that it names"
        words = f"waited {patience:.0f} s for the end of {_title(last)}: it is held by the finalizers {held}"
        raise TimedOut(words, "the FAQ of the documents (delete hangs) says who removes each of them") from None


async def _absent(client: Client, kind: Kind, namespace: str, name: str, last: dict[str, Any] | None) -> CommandError:
    if last is not None:
        return CommandError(f"{kind.title(name)} was deleted meanwhile")
    error = NotFound(404, "NotFound", f'{kind.plural} "{name}" not found')
    return await not_found(client, kind, namespace, name, error)


def _raise_if_final(obj: dict[str, Any], title: str, found: Condition | None) -> None:
    """A training that was given up, or a spec that is refused, stays so until somebody acts."""
    status = obj.get("status", {})
    is_seen = found is not None and found.observedGeneration == obj["metadata"].get("generation")
    if not is_seen or found is None:
        return
    if status.get("state") in FINAL_STATES or found.reason in FINAL_REASONS:
        raise CommandError(f"{title} will not get there: {found.reason}: {found.message}")


def _is_workspace(kind: Kind) -> bool:
    return (kind.resource.group, kind.resource.kind) == (WORKSPACES.group, WORKSPACES.kind)


def _title(obj: dict[str, Any] | None) -> str:
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}" if obj else "the object"


def _unseen(obj: dict[str, Any] | None, condition: str) -> str:
    if obj and obj.get("kind") == WORKSPACES.kind and not obj.get("status", {}).get("conditions"):
        return NO_OPERATOR
    return f"it has no condition {condition}"


def _why_not(title: str, condition: str, obj: dict[str, Any] | None, patience: float) -> str:
    found = condition_of(obj, condition) if obj else None
    why = f": {found.reason}: {found.message}" if found else f": {_unseen(obj, condition)}"
    return f"waited {patience:.0f} s for {condition} of {title}{why}"


async def workspace_pods(client: Client, namespace: str, workspace: str) -> list[Pod]:
    """The pods of a Workspace, the newest first."""
    listing = await client.list(PODS, namespace, labels=f"{LABEL_WORKSPACE}={workspace}")
    pods = [pod for pod, _ in listing.items]
    return sorted(pods, key=lambda pod: pod.metadata.creationTimestamp or "", reverse=True)


async def stream_logs(
    client: Client,
    namespace: str,
    workspace: str,
    *,
    pod: str = "",
    container: str = "",
    follow: bool = False,
    previous: bool = False,
    tail: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """The log of a Workspace's newest pod (or of `pod`), of the container that is at work or that failed."""
    pods = await workspace_pods(client, namespace, workspace)
    chosen = next((p for p in pods if pod in ("", p.metadata.name)), None)
    if chosen is None:
        raise await _no_pod(client, namespace, workspace, pod)
    params = {"container": container or _at_work(chosen)}
    params |= {"follow": "true"} if follow else {}
    params |= {"previous": "true"} if previous else {}
    params |= {"tailLines": str(tail)} if tail is not None else {}
    path = PODS.path(namespace, chosen.metadata.name, "log")
    try:
        async with aclosing(client.stream(path, params)) as chunks:
            async for chunk in chunks:
                yield chunk
    except NotFound as error:
        raise UsageError(error.message) from error


async def _no_pod(client: Client, namespace: str, workspace: str, pod: str) -> CommandError:
    await require_workspace(client, namespace, workspace)
    named_so = f" named {pod}" if pod else ""
    words = f"Workspace {workspace} has no pod{named_so} in namespace {namespace} yet"
    return CommandError(words, f"`kaito explain {workspace}` says what it waits for")


async def require_workspace(client: Client, namespace: str, workspace: str) -> None:
    """Raises CommandError with the nearest name where there is no such Workspace."""
    try:
        await client.get(WORKSPACES, workspace, namespace)
    except NotFound as error:
        kind = named(await kinds_for(client, ["workspaces"]), "workspaces")
        raise await not_found(client, kind, namespace, workspace, error) from error


def _at_work(pod: Pod) -> str:
    """The container that runs now; else the last that failed; else the pod's default; else its first."""
    statuses = [*pod.status.initContainerStatuses, *pod.status.containerStatuses]
    running = [s.name for s in statuses if s.state.running]
    failed = [s.name for s in statuses if s.state.terminated and s.state.terminated.exitCode]
    failed += [s.name for s in statuses if s.lastState.terminated and s.lastState.terminated.exitCode]
    default = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    main = [s.name for s in pod.status.containerStatuses]
    return next(iter([*running, *failed, *([default] if default else []), *main]), "")
