"""The files of a volume that is made from the API: configMap, secret, downwardAPI, projected. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, NamedTuple

from kaito.local.agent.configuration import Configuration
from kaito.local.agent.downward import field_value, resource_value
from kaito.local.agent.environment import PodFacts
from kaito.local.agent.errors import ContainerRefused, config_error

DEFAULT_MODE = 0o644
PROJECTED = ("configMap", "secret", "downwardAPI", "projected")


class File(NamedTuple):
    content: bytes
    mode: int


Files = dict[str, File]
"""Relative path -> file."""


def is_projected(volume: dict[str, Any]) -> bool:
    return any(volume.get(name) is not None for name in PROJECTED)


def project(volume: dict[str, Any], facts: PodFacts, configuration: Configuration) -> Files:
    """The volume's files now. Raises ContainerRefused when something that is not optional is missing."""
    if volume.get("projected") is not None:
        projected = volume["projected"]
        files: Files = {}
        for source in projected.get("sources") or ():
            files |= _source(source, projected.get("defaultMode"), facts, configuration)
        return files
    name = next(name for name in PROJECTED if volume.get(name) is not None)
    return _source(volume, (volume[name] or {}).get("defaultMode"), facts, configuration)


def _source(source: dict[str, Any], mode: int | None, facts: PodFacts, configuration: Configuration) -> Files:
    default = DEFAULT_MODE if mode is None else mode
    if source.get("configMap") is not None:
        return _of_keys("ConfigMap", source["configMap"], source["configMap"].get("name", ""), default, configuration)
    if source.get("secret") is not None:
        secret = source["secret"]
        return _of_keys("Secret", secret, secret.get("secretName") or secret.get("name", ""), default, configuration)
    if source.get("downwardAPI") is not None:
        return _of_fields(source["downwardAPI"].get("items") or (), default, facts)
    kind = next((key for key in source if key != "name"), "nothing")
    raise ContainerRefused("CreateContainerConfigError", f"a volume from {kind} is not supported on one machine")


def _of_keys(kind: str, source: dict[str, Any], name: str, mode: int, configuration: Configuration) -> Files:
    optional = bool(source.get("optional"))
    content = configuration.content(kind, name, optional=optional)
    items = source.get("items")
    if not items:
        return {_inside(key): File(value, mode) for key, value in content.items()}
    files: Files = {}
    for item in items:
        if item["key"] in content:
            chosen = item.get("mode")
            files[_inside(item["path"])] = File(content[item["key"]], mode if chosen is None else chosen)
        elif not optional:
            raise config_error(f'{kind.lower()} "{name}" has no key {item["key"]!r}, which a volume asks for')
    return files


def _of_fields(items: Any, mode: int, facts: PodFacts) -> Files:
    files: Files = {}
    for item in items:
        if item.get("fieldRef"):
            value = field_value(facts.pod, item["fieldRef"].get("fieldPath", ""), facts.pod_ip, facts.host_ip)
        else:
            value = resource_value(facts.pod, {}, item.get("resourceFieldRef") or {}, facts.capacity)
        chosen = item.get("mode")
        files[_inside(item["path"])] = File(value.encode(), mode if chosen is None else chosen)
    return files


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise config_error(f"the path {path!r} leaves its volume")
    return path
