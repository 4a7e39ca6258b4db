"""Which resource a URL names. The layout is Kubernetes': /api/v1/... and /apis/GROUP/VERSION/..."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class ResourcePath:
    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    """What follows the subresource, with its leading slash: the path that a proxy request is for."""


def parse_path(raw_path: str) -> ResourcePath | None:
    """None when the path names no resource (discovery documents, health, unknown prefixes).

    The path is split before it is decoded, so an encoded slash stays inside its segment.
    """
    segments = raw_path.split("/")[1:]
    if segments[0] == "api" and len(segments) >= 3:
        group, version, parts = "", segments[1], segments[2:]
    elif segments[0] == "apis" and len(segments) >= 4:
        group, version, parts = segments[1], segments[2], segments[3:]
    else:
        return None
    if parts[-1] == "" and "proxy" not in parts:
        parts = parts[:-1]
    namespace = ""
    if parts and parts[0] == "namespaces" and len(parts) >= 3 and parts[2] not in NAMESPACE_SUBRESOURCES:
        namespace, parts = unquote(parts[1]), parts[2:]
    if not parts or not all(parts[:3]):
        return None
    plural, name, subresource, rest = parts[0], "", "", ""
    if len(parts) > 1:
        name = unquote(parts[1])
    if len(parts) > 2:
        subresource = parts[2]
    if len(parts) > 3:
        rest = "/" + "/".join(parts[3:])
    if not all(_is_segment(text) for text in (namespace or "default", name or "default")):
        return None
    return ResourcePath(unquote(group), unquote(version), plural, namespace, name, subresource, rest)


def _is_segment(text: str) -> bool:
    """Neither a step of a path nor two of them: names are keys of the store."""
    return text not in (".", "..") and "/" not in text and "%" not in text
