"""From what a person types (`wk`, `svc`, `nodeclaims.karpenter.sh`) or a manifest says, to a kind of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec

from kaito.cli.errors import UsageError
from kaito.kube.client import Client
from kaito.kube.errors import ApiError
from kaito.kube.resources import WORKSPACES, Resource, untyped

WORKSPACE_WORDS = frozenset(
    word + group for word in ("workspace", "workspaces", "wk", "wks") for group in ("", f".{WORKSPACES.group}")
)


@dataclass(frozen=True)
class Kind:
    resource: Resource[dict[str, Any]]
    names: frozenset[str]
    """Everything it is called: plural, singular, kind and short names, in lower case, also with the group."""
    categories: frozenset[str]

    def title(self, name: str) -> str:
        """As kubectl prints an object: `workspace.kaito.sh/name`."""
        group = f".{self.resource.group}" if self.resource.group else ""
        return f"{self.resource.kind.lower()}{group}/{name}"

    @property
    def plural(self) -> str:
        """As the server names the kind in its errors: `workspaces.kaito.sh`."""
        return f"{self.resource.plural}.{self.resource.group}" if self.resource.group else self.resource.plural


async def kinds_for(client: Client, words: Iterable[str]) -> list[Kind]:
    """The kinds among which `words` (`wk`, `pods,svc`, `svc/a`) are looked for: one request when all are Workspaces.

    A far cluster with fifty groups makes people wait for the whole list.
    """
    asked = {word.partition("/")[0].lower() for word in words}
    if asked <= WORKSPACE_WORDS:
        document = await _document(client, f"apis/{WORKSPACES.api_version}")
        if document:
            return list(_kinds(msgspec.json.decode(document)))
    return await discover(client)


async def discover(client: Client) -> list[Kind]:
    """All kinds that the server offers, the preferred version of each group first."""
    groups = msgspec.json.decode(await client.request("discovery", "GET", "apis")).get("groups", [])
    versions = ["api/v1"]
    for group in groups:
        preferred = group["preferredVersion"]["groupVersion"]
        others = [v["groupVersion"] for v in group["versions"] if v["groupVersion"] != preferred]
        versions += [f"apis/{version}" for version in (preferred, *others)]
    documents = await asyncio.gather(*(_document(client, path) for path in versions))
    return [kind for document in documents if document for kind in _kinds(msgspec.json.decode(document))]


async def _document(client: Client, path: str) -> bytes:
    """Of a group whose own server is away, as an aggregated API may be, nothing: the others go on."""
    try:
        return await client.request("discovery", "GET", path)
    except ApiError as error:
        if error.code < 500 and error.code != 404:
            raise
        return b""


def _kinds(document: dict[str, Any]) -> Iterable[Kind]:
    group, _, version = document["groupVersion"].rpartition("/")
    for entry in document.get("resources", []):
        if "/" in entry["name"]:
            continue
        resource = untyped(group, version, entry["name"], entry["kind"], entry["namespaced"])
        plain = {entry["name"], entry.get("singularName") or "", entry["kind"].lower(), *entry.get("shortNames", [])}
        names = {name for name in plain if name}
        if group:
            names |= {f"{name}.{group}" for name in names}
        yield Kind(resource, frozenset(names), frozenset(entry.get("categories", [])))


def named(kinds: Iterable[Kind], word: str) -> Kind:
    """The kind that `word` means. Raises UsageError with the nearest words."""
    known = list(kinds)
    found = next((kind for kind in known if word.lower() in kind.names), None)
    if found is None:
        raise UsageError(f'the server has no kind "{word}"', _nearest_kind(known, word))
    return found


def listed(kinds: Iterable[Kind], words: str) -> list[Kind]:
    """The kinds that a word such as `pods,svc` or a category such as `all` means. Raises UsageError."""
    known, found = list(kinds), []
    for word in words.split(","):
        in_category = [kind for kind in known if word.lower() in kind.categories - kind.names]
        found += in_category or [named(known, word)]
    return found


def _nearest_kind(kinds: list[Kind], word: str) -> str:
    if "workspaces" not in {kind.resource.plural for kind in kinds}:
        return "Kaito is not installed there: `kaito install` does it, `kaito crds | kaito apply -f -` its kinds alone"
    names = sorted({name for kind in kinds for name in kind.names if "." not in name})
    near = get_close_matches(word.lower(), names, 1, 0.6)
    return f'did you mean "{near[0]}"?' if near else "`kaito get workspaces` lists Workspaces"


def of_manifest(kinds: Iterable[Kind], manifest: dict[str, Any], where: str) -> Kind:
    """The kind that a manifest's apiVersion and kind mean. Raises UsageError."""
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    known = list(kinds)
    found = next((k for k in known if k.resource.api_version == version and k.resource.kind == kind), None)
    if found is None:
        raise UsageError(f'{where}: the server has no kind "{kind}" in version "{version}"', _way_out(known, kind))
    return found


def _way_out(kinds: list[Kind], kind: Any) -> str:
    versions = [k.resource.api_version for k in kinds if k.resource.kind == kind]
    if versions:
        return f"it has {kind} in version {', '.join(versions)}"
    near = get_close_matches(str(kind), [k.resource.kind for k in kinds], 1, 0.75)
    if near:
        return f'did you mean "{near[0]}"?'
    return "check apiVersion and kind; `kaito crds | kaito apply -f -` installs the suite's own"
