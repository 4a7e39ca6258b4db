"""What the commands about objects of any kind do: apply, get, delete. `waiting` has what takes time.

Watches are closed where they are left: what the loop's end has to close for us may still be at work then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec

from kaito.cli.connection import RIGHT
from kaito.cli.discovery import Kind, discover, kinds_for, listed, named, of_manifest
from kaito.cli.errors import CommandError, UsageError
from kaito.cli.manifests import read_manifests
from kaito.cli.tables import TABLE
from kaito.kube.client import APPLY_PATCH, Client, WatchEvent
from kaito.kube.errors import ApiError, Expired, NotFound, Unreachable

Tell = Callable[[str], None]
REST_SECONDS = 1.0
"""Between a watch that broke off and the next list."""
ESTABLISHED_SECONDS = 15.0
"""That a server may take to serve a kind whose definition it has accepted."""


async def apply_manifests(
    client: Client, namespace: str, sources: list[str], tell: Tell, *, dry_run: bool = False, recursive: bool = False
) -> None:
    """Server-side apply of every object, in order; `tell` gets one line each, as kubectl words it."""
    manifests = list(read_manifests(sources, recursive=recursive))
    if not manifests:
        raise UsageError(f"{', '.join(sources)}: there is no object to apply")
    kinds = await discover(client)
    failures: list[CommandError] = []
    for where, manifest in manifests:
        try:
            kind = of_manifest(kinds, manifest, where)
            tell(await _apply_one(client, kind, manifest, namespace, where, dry_run))
        except CommandError as error:
            failures.append(error)
            continue
        if manifest["kind"] == "CustomResourceDefinition" and not dry_run:
            kinds = await _await_kind(client, manifest)
    _raise_all(failures)


async def _await_kind(client: Client, definition: dict[str, Any]) -> list[Kind]:
    """All kinds, once the server serves the new one: a manifest behind its definition may be of it."""
    group, plural = definition["spec"]["group"], definition["spec"]["names"]["plural"]
    deadline = asyncio.get_running_loop().time() + ESTABLISHED_SECONDS
    while True:
        kinds = await discover(client)
        is_served = any((kind.resource.group, kind.resource.plural) == (group, plural) for kind in kinds)
        if is_served or asyncio.get_running_loop().time() > deadline:
            return kinds
        await asyncio.sleep(0.2)


def _raise_all(failures: list[CommandError]) -> None:
    """One object that is refused does not hold up the others; each is told, and the worst code is the command's."""
    if len(failures) == 1:
        raise failures[0]
    if failures:
        lines = [f"{error}\n  {error.hint}" if error.hint else str(error) for error in failures]
        kind = UsageError if all(isinstance(error, UsageError) for error in failures) else CommandError
        raise kind("\nkaito: ".join(lines))


async def _apply_one(
    client: Client, kind: Kind, manifest: dict[str, Any], namespace: str, where: str, dry_run: bool
) -> str:
    metadata = manifest["metadata"]
    title = kind.title(metadata["name"])
    space = _space(kind, metadata.get("namespace") or namespace)
    before = await client.find(kind.resource, metadata["name"], space)
    try:
        after = await _server_side_apply(client, kind, manifest, space, dry_run)
    except ApiError as error:
        hint = RIGHT if error.code == 403 and "webhook" not in error.message else ""
        raise CommandError(f"{where}: {title}: {error.message}", hint) from error
    return f"{title} {_change(before, after)}{' (server dry run)' if dry_run else ''}"


async def _server_side_apply(
    client: Client, kind: Kind, manifest: dict[str, Any], space: str, dry_run: bool
) -> dict[str, Any]:
    """Strictly, as kubectl does it: a field that the kind does not have is an error, not lost."""
    path = kind.resource.path(space, manifest["metadata"]["name"])
    params = {"fieldManager": client.field_manager, "force": "true", "fieldValidation": "Strict"}
    params |= {"dryRun": "All"} if dry_run else {}
    answer = await client.request("apply", "PATCH", path, params, manifest, content_type=APPLY_PATCH)
    after: dict[str, Any] = msgspec.json.decode(answer)
    return after


def _change(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "created"
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return "unchanged" if same else "configured"


def _space(kind: Kind, namespace: str) -> str:
    return namespace if kind.resource.namespaced else ""


@dataclass(frozen=True)
class Wanted:
    """One kind, with a name of it or none for all."""

    kind: Kind
    name: str = ""


def kind_words(words: list[str]) -> list[str]:
    """Of `pods,svc`, `wk a b` or `wk/a svc/b`, the words that name kinds."""
    return words if any("/" in word for word in words) else words[0].split(",")


def wanted_objects(kinds: list[Kind], words: list[str]) -> list[Wanted]:
    """What `pods,svc`, `wk a b` or `wk/a svc/b` mean. Raises UsageError."""
    if any("/" in word for word in words):
        if not all("/" in word for word in words):
            raise UsageError(f'"{" ".join(words)}" mixes KIND/NAME with other words', "write all as KIND/NAME")
        parts = [word.partition("/") for word in words]
        return [Wanted(named(kinds, kind), _name(name)) for kind, _, name in parts]
    found = listed(kinds, words[0])
    for name in words[1:]:
        _name(name)
    return [Wanted(kind, name) for kind in found for name in words[1:] or [""]]


def _name(word: str) -> str:
    """Raises UsageError for what would lead elsewhere in the API, or to all objects."""
    if not word or "/" in word or "%" in word or word in (".", ".."):
        raise UsageError(f'"{word}" is no name of an object', "`kaito get KIND` lists the names")
    return word


async def get_table(
    client: Client, namespace: str, word: str, name: str = "", *, all_namespaces: bool = False, labels: str = ""
) -> dict[str, Any]:
    """The server's own table of one object or of a list."""
    kind = named(await kinds_for(client, [word]), word)
    return await table_of(client, kind, "" if all_namespaces else namespace, name, labels)


async def table_of(client: Client, kind: Kind, namespace: str, name: str = "", labels: str = "") -> dict[str, Any]:
    path = kind.resource.path(_space(kind, namespace), name)
    params = {"labelSelector": labels} if labels else {}
    try:
        answer = await client.request("get", "GET", path, params, accept=TABLE)
    except NotFound as error:
        raise await not_found(client, kind, namespace, name, error) from error
    table: dict[str, Any] = msgspec.json.decode(answer)
    return table


async def get_objects(client: Client, namespace: str, wanted: list[Wanted], *, labels: str = "") -> dict[str, Any]:
    """One object, or a List of them, as plain data. An empty namespace means all."""
    found: list[dict[str, Any]] = []
    for one in wanted:
        found += await _objects_of(client, namespace, one, labels)
    if len(wanted) == 1 and wanted[0].name:
        return found[0]
    return {"apiVersion": "v1", "kind": "List", "items": found}


async def _objects_of(client: Client, namespace: str, wanted: Wanted, labels: str) -> list[dict[str, Any]]:
    resource, space = wanted.kind.resource, _space(wanted.kind, namespace)
    if wanted.name:
        try:
            return [await client.get(resource, wanted.name, space)]
        except NotFound as error:
            raise await not_found(client, wanted.kind, namespace, wanted.name, error) from error
    # The items of a built-in kind's list come without the two.
    head = {"apiVersion": resource.api_version, "kind": resource.kind}
    return [{**head, **item} for item, _ in (await client.list(resource, space, labels=labels)).items]


async def not_found(client: Client, kind: Kind, namespace: str, name: str, error: NotFound) -> CommandError:
    """That it is not there, with the nearest name that is, here or in another namespace."""
    text = f"Error from server (NotFound): {error.message}"
    try:
        listing = await client.list(kind.resource, "")
    except ApiError:  # those who may not list everything still hear what is missing
        return CommandError(text)
    places = [(item["metadata"]["name"], item["metadata"].get("namespace", "")) for item, _ in listing.items]
    elsewhere = [space for found, space in places if found == name]
    if elsewhere:
        return CommandError(text, f"there is one in the namespace {elsewhere[0]}: add -n {elsewhere[0]}")
    near = get_close_matches(name, [found for found, space in places if space in ("", namespace)], 1, 0.5)
    word = kind.resource.plural
    return CommandError(text, f'did you mean "{near[0]}"?' if near else f"`kaito get {word} -A` lists all there are")


async def follow_object(
    client: Client, kind: Kind, namespace: str, name: str
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """The object now, then after each change; None once it is gone. Survives a watch that ends or breaks off."""
    space, fields = _space(kind, namespace), f"metadata.name={name}"
    while True:
        listing = await client.list(kind.resource, space, fields=fields)
        yield listing.items[0][0] if listing.items else None
        async with aclosing(_watch(client, kind, space, listing.resource_version, fields=fields)) as events:
            async for event in events:
                yield None if event.type == "DELETED" else event.object


async def follow_list(
    client: Client, kind: Kind, namespace: str, *, name: str = "", labels: str = ""
) -> AsyncGenerator[dict[str, Any], None]:
    """The objects of a kind as they change from now on."""
    space, fields = _space(kind, namespace), f"metadata.name={name}" if name else ""
    while True:
        listing = await client.list(kind.resource, space, labels=labels, fields=fields)
        watch = _watch(client, kind, space, listing.resource_version, labels=labels, fields=fields)
        async with aclosing(watch) as events:
            async for event in events:
                if event.type != "DELETED":
                    yield event.object


async def _watch(
    client: Client, kind: Kind, space: str, version: str, *, labels: str = "", fields: str = ""
) -> AsyncGenerator[WatchEvent[dict[str, Any]], None]:
    """Events until the watch ends, for whatever reason; the caller lists again, and hears of a server that is gone."""
    try:
        watch = client.watch(kind.resource, space, version=version, labels=labels, fields=fields)
        async with aclosing(watch) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    yield event
    except (Expired, Unreachable):
        await asyncio.sleep(REST_SECONDS)


async def delete_objects(client: Client, namespace: str, word: str, names: list[str], tell: Tell) -> list[Wanted]:
    """Ask for the deletion of objects of one kind that are there; those that are not are passed over."""
    kind = named(await kinds_for(client, [word]), word)
    return await delete_wanted(client, namespace, [Wanted(kind, name) for name in names], tell, ignore_absent=True)


async def delete_wanted(
    client: Client, namespace: str, wanted: list[Wanted], tell: Tell, *, ignore_absent: bool = False
) -> list[Wanted]:
    """Ask for the deletion of each; returns those that were there. Raises CommandError for one that is not."""
    going = []
    for one in wanted:
        if not one.name:
            word = one.kind.resource.plural
            raise UsageError(f"which of the {word} is not said", f"name them, or say `kaito delete {word} --all`")
        if await client.delete(one.kind.resource, one.name, _space(one.kind, namespace)):
            tell(_deleted(one))
            going.append(one)
        elif not ignore_absent:
            error = NotFound(404, "NotFound", f'{one.kind.plural} "{one.name}" not found')
            raise await not_found(client, one.kind, namespace, one.name, error)
    return going


def _deleted(one: Wanted) -> str:
    group = f".{one.kind.resource.group}" if one.kind.resource.group else ""
    return f'{one.kind.resource.kind.lower()}{group} "{one.name}" deleted'


async def all_of(client: Client, namespace: str, kinds: list[Kind], labels: str) -> list[Wanted]:
    """Every object of some kinds in a namespace, or those with these labels."""
    found = []
    for kind in kinds:
        listing = await client.list(kind.resource, _space(kind, namespace), labels=labels)
        found += [Wanted(kind, item["metadata"]["name"]) for item, _ in listing.items]
    return found


async def manifest_objects(
    client: Client, namespace: str, sources: list[str], *, recursive: bool = False
) -> list[tuple[Wanted, str]]:
    """What manifests name, each with its namespace, the last first: what was applied later may need the earlier."""
    kinds = await discover(client)
    found = []
    for where, manifest in read_manifests(sources, recursive=recursive):
        kind, metadata = of_manifest(kinds, manifest, where), manifest["metadata"]
        found.append((Wanted(kind, metadata["name"]), metadata.get("namespace") or namespace))
    return found[::-1]
