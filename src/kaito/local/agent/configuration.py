"""The ConfigMaps and Secrets that one pod refers to, as the API has them now."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kaito.local.agent.errors import config_error

Reference = tuple[str, str]
"""(kind, name), kind being ConfigMap or Secret."""


@dataclass(frozen=True)
class Configuration:
    namespace: str
    objects: dict[Reference, dict[str, Any] | None] = field(default_factory=dict)

    def content(self, kind: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """Keys and values. Raises ContainerRefused, naming the object, when it is not there and not optional."""
        found = self.objects.get((kind, name))
        if found is None:
            if optional:
                return {}
            raise config_error(f'{kind.lower()} "{name}" not found in the namespace {self.namespace}')
        if kind == "ConfigMap":
            text = {key: str(value).encode() for key, value in (found.get("data") or {}).items()}
            return text | _decode(found.get("binaryData"), kind, name)
        return _decode(found.get("data"), kind, name)


def _decode(data: dict[str, str] | None, kind: str, name: str) -> dict[str, bytes]:
    try:
        return {key: base64.b64decode(value or "") for key, value in (data or {}).items()}
    except (binascii.Error, ValueError) as error:
        raise config_error(f'{kind.lower()} "{name}" holds a value that is not base64') from error


def references(pod: dict[str, Any]) -> set[Reference]:
    """Every ConfigMap and Secret that the pod's volumes and containers name."""
    spec = pod["spec"]
    found = {pair for volume in spec.get("volumes") or () for pair in _of_volume(volume)}
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        found |= set(_of_container(container))
    return found


def _of_volume(volume: dict[str, Any]) -> Iterator[Reference]:
    sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    for source in sources:
        if source.get("configMap"):
            yield "ConfigMap", source["configMap"].get("name", "")
        if source.get("secret"):
            yield "Secret", source["secret"].get("secretName") or source["secret"].get("name", "")


def _of_container(container: dict[str, Any]) -> Iterator[Reference]:
    for source in container.get("envFrom") or ():
        if source.get("configMapRef"):
            yield "ConfigMap", source["configMapRef"].get("name", "")
        if source.get("secretRef"):
            yield "Secret", source["secretRef"].get("name", "")
    for entry in container.get("env") or ():
        source = entry.get("valueFrom") or {}
        if source.get("configMapKeyRef"):
            yield "ConfigMap", source["configMapKeyRef"].get("name", "")
        if source.get("secretKeyRef"):
            yield "Secret", source["secretKeyRef"].get("name", "")
