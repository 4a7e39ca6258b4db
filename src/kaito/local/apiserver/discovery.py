"""What the server says that it serves: the plain documents of every kubectl, and the aggregated ones of new ones."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from aiohttp import web

from kaito.local.apiserver.answer import encode
from kaito.local.apiserver.resources import Resource, Resources
from kaito.local.machinery.errors import PageNotFound
from kaito.local.machinery.kinds import ResourceInfo
from kaito.local.machinery.resource_info import ALL_VERBS
from kaito.local.store.records import Object

AGGREGATED = "apidiscovery.k8s.io"
FIRST_GROUPS = ("", "apps", "batch", "events.k8s.io", "rbac.authorization.k8s.io", "apiextensions.k8s.io")
SUBRESOURCE_KINDS = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "exec": ("", "v1", "PodExecOptions"),
    "attach": ("", "v1", "PodAttachOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
    "proxy": ("", "v1", "PodProxyOptions"),
}
SUBRESOURCE_VERBS = {
    "eviction": ["create"],
    "binding": ["create"],
    "token": ["create"],
    "log": ["get"],
    "exec": ["create", "get"],
    "attach": ["create", "get"],
    "portforward": ["create", "get"],
    "proxy": ["create", "delete", "get", "patch", "update"],
    "finalize": ["update"],
}


class Discovery:
    """Documents are made when asked for and kept until what is served changes."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._cache: dict[str, tuple[bytes, str]] = {}
        self._generation = -1

    def serve(self, path: str, request: web.BaseRequest) -> web.Response:
        """The document for /api, /apis, /api/v1, /apis/GROUP or /apis/GROUP/VERSION; 404 for any other path."""
        if self._generation != self._resources.generation:
            self._cache.clear()
            self._generation = self._resources.generation
        version = _aggregated_version(request.headers.get("Accept", "")) if path in ("/api", "/apis") else ""
        body, etag = self._document(path, version)
        headers = {"ETag": etag, "Vary": "Accept"} if version else {}
        if version and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        content_type = "application/json"
        if version:
            content_type += f";g={AGGREGATED};v={version};as=APIGroupDiscoveryList"
        return web.Response(body=body, headers={**headers, "Content-Type": content_type})

    def _document(self, path: str, version: str) -> tuple[bytes, str]:
        key = f"{path} {version}"
        if key not in self._cache:
            body = encode(self._aggregated(path, version) if version else self._plain(path))
            digest = hashlib.sha256(body).hexdigest().upper()
            self._cache[key] = (body, f'"{digest}"')
        return self._cache[key]

    def _plain(self, path: str) -> Object:
        if path == "/api":
            return {
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
            }
        groups = self._groups()
        if path == "/apis":
            named = [_group(name, versions) for name, versions in groups.items() if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
        parts = path.split("/")[1:] or [""]
        if parts == ["api", "v1"]:
            return _resource_list("v1", groups[""]["v1"])
        if parts[0] == "apis" and len(parts) in (2, 3) and parts[1] and parts[1] in groups:
            versions = groups[parts[1]]
            if len(parts) == 2:
                return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], versions)}
            if parts[2] in versions:
                return _resource_list(f"{parts[1]}/{parts[2]}", versions[parts[2]])
        raise PageNotFound()

    def _aggregated(self, path: str, version: str) -> Object:
        groups = self._groups()
        names = [""] if path == "/api" else [name for name in groups if name]
        items = [
            {
                "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
                "versions": [
                    {
                        "version": one,
                        "freshness": "Current",
                        "resources": [_aggregated_resource(resource.info) for resource in resources],
                    }
                    for one, resources in groups[name].items()
                ],
            }
            for name in names
        ]
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"{AGGREGATED}/{version}",
            "metadata": {},
            "items": items,
        }

    def _groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Group -> version -> resources; the well-known groups first, versions best first."""
        found: dict[str, dict[str, list[Resource]]] = {name: {} for name in FIRST_GROUPS}
        for resource in self._resources.all():
            found.setdefault(resource.info.group, {}).setdefault(resource.info.version, []).append(resource)
        return {
            name: {version: versions[version] for version in sorted(versions, key=_version_rank)}
            for name, versions in found.items()
            if versions
        }


def _aggregated_version(accept: str) -> str:
    """`v2` or `v2beta1` when the client takes the aggregated document, else ""."""
    for clause in accept.split(","):
        parameters = dict(part.strip().partition("=")[::2] for part in clause.split(";")[1:])
        if parameters.get("as") == "APIGroupDiscoveryList" and parameters.get("v") in ("v2", "v2beta1"):
            return parameters["v"]
        if not parameters and clause.strip() == "application/json":
            return ""
    return ""


def _version_rank(version: str) -> tuple[int, int, int, str]:
    """Kubernetes' order: v2, v1, v1beta2, v1beta1, v1alpha1, then anything else by name."""
    for rank, stage in enumerate(("alpha", "beta"), start=1):
        major, found, minor = version.removeprefix("v").partition(stage)
        if found and version.startswith("v") and major.isdigit():
            return (3 - rank, -int(major), -int(minor or 0), "")
    if version.startswith("v") and version[1:].isdigit():
        return (0, -int(version[1:]), 0, "")
    return (3, 0, 0, version)


def _group(name: str, versions: Iterable[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resource_list(group_version: str, resources: list[Resource]) -> Object:
    listed: list[Object] = []
    for info in _listed([resource.info for resource in resources]):
        entry: Object = {
            "name": info.plural,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.kind,
            "verbs": _verbs(info),
            "storageVersionHash": _storage_version_hash(info),
        }
        if info.short_names:
            entry["shortNames"] = list(info.short_names)
        if info.categories:
            entry["categories"] = list(info.categories)
        listed.append(entry)
        for name in _subresources(info):
            group, version, kind = SUBRESOURCE_KINDS.get(name, (info.group, info.version, info.kind))
            sub: Object = {
                "name": f"{info.plural}/{name}",
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": kind,
                "verbs": SUBRESOURCE_VERBS.get(name, ["get", "patch", "update"]),
            }
            if name in SUBRESOURCE_KINDS:
                sub |= {"group": group, "version": version}
            listed.append(sub)
    head = {"kind": "APIResourceList", "groupVersion": group_version, "resources": listed}
    return head if group_version == "v1" else {"apiVersion": "v1", **head}


def _listed(infos: list[ResourceInfo]) -> list[ResourceInfo]:
    """Built-in kinds by their names; custom ones as their definitions came."""
    return infos if any(info.crd for info in infos) else sorted(infos, key=lambda info: info.plural)


def _subresources(info: ResourceInfo) -> list[str]:
    """In the order that Kubernetes lists them, which differs for custom kinds."""
    return sorted(info.subresources, reverse=bool(info.crd))


def _verbs(info: ResourceInfo) -> list[str]:
    """In the order that Kubernetes lists them, which differs for custom kinds."""
    if info.crd and info.verbs == ALL_VERBS:
        return ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
    return list(info.verbs)


def _storage_version_hash(info: ResourceInfo) -> str:
    """Names the version that objects are stored in, so that a migrator sees when it changes."""
    text = f"{info.group}/{info.storage_version or info.version}/{info.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def _aggregated_resource(info: ResourceInfo) -> Object:
    entry: Object = {
        "resource": info.plural,
        "responseKind": {"group": info.group, "version": info.version, "kind": info.kind},
        "scope": "Namespaced" if info.namespaced else "Cluster",
        "singularResource": info.singular,
        "verbs": _verbs(info),
    }
    if info.short_names:
        entry["shortNames"] = list(info.short_names)
    if info.categories:
        entry["categories"] = list(info.categories)
    if info.subresources:
        entry["subresources"] = [_aggregated_subresource(info, name) for name in _subresources(info)]
    return entry


def _aggregated_subresource(info: ResourceInfo, name: str) -> Object:
    group, version, kind = SUBRESOURCE_KINDS.get(name, (info.group, info.version, info.kind))
    return {
        "subresource": name,
        "responseKind": {"group": group, "version": version, "kind": kind},
        "verbs": SUBRESOURCE_VERBS.get(name, ["get", "patch", "update"]),
    }
