"""What the object commands do: apply, get, wait, delete, logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from kaito.api import conditions
from kaito.api.core import Pod
from kaito.api.meta import Condition
from kaito.api.workspace import LABEL_WORKSPACE
from kaito.cli.discovery import Kind, discover, named, of_manifest
from kaito.cli.errors import CommandError, TimedOut, UsageError
from kaito.cli.manifests import read_manifests
from kaito.cli.tables import TABLE
from kaito.kube.client import Client
from kaito.kube.errors import ApiError, NotFound
from kaito.kube.resources import PODS

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def apply_manifests(client: Client, namespace: str, sources: list[str], tell: Callable[[str], None]) -> None:
    """Server-side apply of every object, in order; `tell` gets one line each, as kubectl words it."""
    manifests = list(read_manifests(sources))
    kinds = await discover(client)
    for where, manifest in manifests:
        if manifest["kind"] == "CustomResourceDefinition":
            tell(await _apply_one(client, of_manifest(kinds, manifest, where), manifest, namespace, where))
            kinds = await discover(client)
            continue
        tell(await _apply_one(client, of_manifest(kinds, manifest, where), manifest, namespace, where))


async def _apply_one(client: Client, kind: Kind, manifest: dict[str, Any], namespace: str, where: str) -> str:
    metadata = manifest["metadata"]
    space = _space(kind, metadata.get("namespace") or namespace)
    before = await client.find(kind.resource, metadata["name"], space)
    body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    try:
        after, _ = await client.apply(kind.resource, body, space)
    except ApiError as error:
        raise CommandError(f"{where}: {kind.title(metadata['name'])}: {error.message}") from error
    return f"{kind.title(metadata['name'])} {_change(before, after)}"


def _change(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "created"
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return "unchanged" if same else "configured"


def _space(kind: Kind, namespace: str) -> str:
    return namespace if kind.resource.namespaced else ""


async def get_table(
    client: Client, namespace: str, word: str, name: str = "", *, all_namespaces: bool = False, labels: str = ""
) -> dict[str, Any]:
    """The server's own table of one object or of a list."""
    kind = named(await discover(client), word)
    return await table_of(client, kind, _space(kind, "" if all_namespaces else namespace), name, labels)


async def table_of(client: Client, kind: Kind, space: str, name: str = "", labels: str = "") -> dict[str, Any]:
    path = kind.resource.path(space, name)
    params = {"labelSelector": labels} if labels else {}
    table: dict[str, Any] = msgspec.json.decode(await client.request("get", "GET", path, params, accept=TABLE))
    return table


async def get_objects(
    client: Client, namespace: str, word: str, name: str = "", *, all_namespaces: bool = False, labels: str = ""
) -> dict[str, Any]:
    """One object, or a List of them, as plain data."""
    kind = named(await discover(client), word)
    space = _space(kind, "" if all_namespaces else namespace)
    if name:
        return await client.get(kind.resource, name, space)
    listing = await client.list(kind.resource, space, labels=labels)
    return {"apiVersion": "v1", "kind": "List", "items": [item for item, _ in listing.items]}


async def follow_object(client: Client, kind: Kind, space: str, name: str) -> AsyncIterator[dict[str, Any] | None]:
    """The object now, then after each change; None once it is gone. Survives a watch that ends."""
    fields = f"metadata.name={name}"
    while True:
        listing = await client.list(kind.resource, space, fields=fields)
        yield listing.items[0][0] if listing.items else None
        async for event in client.watch(kind.resource, space, version=listing.resource_version, fields=fields):
            if event.type != "BOOKMARK":
                yield None if event.type == "DELETED" else event.object


def condition_of(obj: dict[str, Any], type_: str) -> Condition | None:
    found = msgspec.convert(obj.get("status", {}).get("conditions", []), list[Condition])
    return conditions.find(found, type_)


async def wait_for(
    client: Client,
    namespace: str,
    word: str,
    name: str,
    *,
    condition: str,
    patience: float,
    on_change: Callable[[dict[str, Any]], None],
) -> None:
    """Wait until a condition is True, or with condition "delete" until the object is gone.

    Raises TimedOut with the condition's reason and message, CommandError when the object goes away meanwhile.
    """
    kind = named(await discover(client), word)
    space = _space(kind, namespace)
    last: dict[str, Any] | None = None
    try:
        async with asyncio.timeout(patience):
            async for obj in follow_object(client, kind, space, name):
                if obj is None:
                    if condition == "delete":
                        return
                    raise CommandError(f"{kind.title(name)} is not there in namespace {namespace}")
                last = obj
                on_change(obj)
                found = condition_of(obj, condition)
                if found is not None and found.status == "True":
                    return
    except TimeoutError:
        raise TimedOut(_why_not(kind.title(name), condition, last, patience)) from None


def _why_not(title: str, condition: str, obj: dict[str, Any] | None, patience: float) -> str:
    found = condition_of(obj, condition) if obj else None
    why = f": {found.reason}: {found.message}" if found else ""
    return f"waited {patience:.0f} s for {condition} of {title}{why}"


async def delete_objects(
    client: Client, namespace: str, word: str, names: list[str], tell: Callable[[str], None]
) -> None:
    kind = named(await discover(client), word)
    for name in names:
        await _delete_one(client, kind, _space(kind, namespace), name, tell)


async def delete_manifests(client: Client, namespace: str, sources: list[str], tell: Callable[[str], None]) -> None:
    kinds = await discover(client)
    for where, manifest in read_manifests(sources):
        kind = of_manifest(kinds, manifest, where)
        metadata = manifest["metadata"]
        await _delete_one(client, kind, _space(kind, metadata.get("namespace") or namespace), metadata["name"], tell)


async def _delete_one(client: Client, kind: Kind, space: str, name: str, tell: Callable[[str], None]) -> None:
    found = await client.delete(kind.resource, name, space)
    tell(f'{kind.resource.kind.lower()} "{name}" deleted' if found else f"{kind.title(name)} was not there")


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
) -> AsyncIterator[bytes]:
    """The log of a Workspace's newest pod (or of `pod`), of the container that is at work or that failed."""
    pods = await workspace_pods(client, namespace, workspace)
    chosen = next((p for p in pods if pod in ("", p.metadata.name)), None)
    if chosen is None:
        raise CommandError(
            f"Workspace {workspace} has no pod{' named ' + pod if pod else ''} in namespace {namespace} yet",
            f"`kaito explain {workspace}` says what it waits for",
        )
    params = {"container": container or _at_work(chosen)}
    params |= {"follow": "true"} if follow else {}
    params |= {"previous": "true"} if previous else {}
    params |= {"tailLines": str(tail)} if tail is not None else {}
    path = PODS.path(namespace, chosen.metadata.name, "log")
    try:
        async for chunk in client.stream(path, params):
            yield chunk
    except NotFound as error:
        raise UsageError(error.message) from error


def _at_work(pod: Pod) -> str:
    """The container that runs now; else the last that failed; else the pod's default; else its first."""
    statuses = [*pod.status.initContainerStatuses, *pod.status.containerStatuses]
    running = [s.name for s in statuses if s.state.running]
    failed = [s.name for s in statuses if s.state.terminated and s.state.terminated.exitCode]
    failed += [s.name for s in statuses if s.lastState.terminated and s.lastState.terminated.exitCode]
    default = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    main = [s.name for s in pod.status.containerStatuses]
    return next(iter([*running, *failed, *([default] if default else []), *main]), "")
