"""From what a person types (`wk`, `svc`, `nodeclaims.karpenter.sh`) or a manifest says, to a kind of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from kaito.cli.errors import UsageError
from kaito.kube.client import Client
from kaito.kube.resources import Resource, untyped


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


async def discover(client: Client) -> list[Kind]:
    """All kinds that the server offers, the preferred version of each group first."""
    groups = msgspec.json.decode(await client.request("discovery", "GET", "apis")).get("groups", [])
    versions = ["api/v1"]
    for group in groups:
        preferred = group["preferredVersion"]["groupVersion"]
        others = [v["groupVersion"] for v in group["versions"] if v["groupVersion"] != preferred]
        versions += [f"apis/{version}" for version in (preferred, *others)]
    documents = await asyncio.gather(*(client.request("discovery", "GET", path) for path in versions))
    return [kind for document in documents for kind in _kinds(msgspec.json.decode(document))]


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
    """The kind that `word` means. Raises UsageError."""
    found = next((kind for kind in kinds if word.lower() in kind.names), None)
    if found is None:
        raise UsageError(f'the server has no kind "{word}"', "`kaito get workspaces` lists Workspaces")
    return found


def of_manifest(kinds: Iterable[Kind], manifest: dict[str, Any], where: str) -> Kind:
    """The kind that a manifest's apiVersion and kind mean. Raises UsageError."""
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    found = next((k for k in kinds if k.resource.api_version == version and k.resource.kind == kind), None)
    if found is None:
        raise UsageError(
            f'{where}: the server has no kind "{kind}" in version "{version}"',
            "check apiVersion and kind; `kaito crds | kaito apply -f -` installs the suite's own",
        )
    return found
