"""The downward API: what a pod may learn of itself, as environment variables or files."""

from __future__ import annotations

import json
import re
from decimal import ROUND_CEILING
from typing import Any

from kaito.local.agent.errors import config_error
from kaito.local.machinery.quantity import QuantityError, parse_quantity

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")
_SIMPLE = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "metadata.uid": ("metadata", "uid"),
    "spec.nodeName": ("spec", "nodeName"),
    "spec.serviceAccountName": ("spec", "serviceAccountName"),
}
_WHOLE = {"cpu": "1", "memory": "1", "ephemeral-storage": "1"}


def field_value(pod: dict[str, Any], path: str, pod_ip: str, host_ip: str) -> str:
    """The text behind a fieldRef. Raises ContainerRefused for a path that Kubernetes does not know."""
    if path in _SIMPLE:
        section, key = _SIMPLE[path]
        return str(pod[section].get(key) or ("default" if key == "serviceAccountName" else ""))
    addresses = {"status.podIP": pod_ip, "status.podIPs": pod_ip, "status.hostIP": host_ip, "status.hostIPs": host_ip}
    if path in addresses:
        return addresses[path]
    found = _SUBSCRIPT.fullmatch(path)
    if found:
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = (pod["metadata"].get(path.partition(".")[2]) or {}).items()
        return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(pairs))
    raise config_error(f"fieldRef {path!r} is not a field that a pod can refer to")


def resource_value(
    pod: dict[str, Any], container: dict[str, Any], reference: dict[str, Any], capacity: dict[str, str]
) -> str:
    """The number behind a resourceFieldRef, in units of its divisor, rounded up. Without a limit: what the node has."""
    name = reference.get("containerName") or container.get("name")
    pool = [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
    chosen = next((c for c in pool if c["name"] == name), container)
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    amounts = (chosen.get("resources") or {}).get(kind) or {}
    amount = amounts.get(resource) or (capacity.get(resource, "0") if kind == "limits" else "0")
    divisor = reference.get("divisor") or "0"
    try:
        unit = parse_quantity(divisor) or parse_quantity(_WHOLE.get(resource, "1"))
        return str((parse_quantity(amount) / unit).to_integral_value(rounding=ROUND_CEILING))
    except QuantityError as error:
        raise config_error(f"resourceFieldRef {reference.get('resource')!r}: {error}") from error
