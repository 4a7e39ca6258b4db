"""A container's environment: from values, fields, resources, ConfigMaps and Secrets, as Kubernetes orders them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kaito.local.agent.configuration import Configuration
from kaito.local.agent.downward import field_value, resource_value
from kaito.local.agent.errors import config_error

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))?")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


@dataclass(frozen=True)
class PodFacts:
    """What a container may be told of its pod and node."""

    pod: dict[str, Any]
    pod_ip: str
    host_ip: str
    capacity: dict[str, str]


def expand(text: str, variables: dict[str, str]) -> str:
    """Replace `$(NAME)` by its value where it has one; `$$` is a `$`. As Kubernetes' third_party/forked/expansion."""

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found[1] is None:
            return found[0]
        return variables.get(found[1], found[0])

    return _REFERENCE.sub(replace, text)


def environment(container: dict[str, Any], facts: PodFacts, configuration: Configuration) -> dict[str, str]:
    """Variables by name. Raises ContainerRefused when something that is not optional is missing."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        variables |= _all_of(source, configuration)
    for entry in container.get("env") or ():
        value = _value(entry, container, facts, configuration, variables)
        if value is not None:
            variables[entry["name"]] = value
    return variables


def _all_of(source: dict[str, Any], configuration: Configuration) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    kind = "Secret" if source.get("secretRef") else "ConfigMap"
    reference = source.get("secretRef") or source.get("configMapRef") or {}
    content = configuration.content(kind, reference.get("name", ""), optional=bool(reference.get("optional")))
    return {prefix + key: value.decode(errors="replace") for key, value in content.items() if _NAME.fullmatch(key)}


def _value(
    entry: dict[str, Any],
    container: dict[str, Any],
    facts: PodFacts,
    configuration: Configuration,
    variables: dict[str, str],
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(str(entry.get("value") or ""), variables)
    if source.get("fieldRef"):
        return field_value(facts.pod, source["fieldRef"].get("fieldPath", ""), facts.pod_ip, facts.host_ip)
    if source.get("resourceFieldRef"):
        return resource_value(facts.pod, container, source["resourceFieldRef"], facts.capacity)
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if source.get(field):
            return _key_of(source[field], kind, configuration)
    raise config_error(
        f"env {entry['name']!r} of container {container['name']!r} has a valueFrom without a known source"
    )


def _key_of(reference: dict[str, Any], kind: str, configuration: Configuration) -> str | None:
    name, key, optional = reference.get("name", ""), reference.get("key", ""), bool(reference.get("optional"))
    content = configuration.content(kind, name, optional=optional)
    if key in content:
        return content[key].decode(errors="replace")
    if optional:
        return None
    raise config_error(f"couldn't find key {key} in {kind} {configuration.namespace}/{name}")
