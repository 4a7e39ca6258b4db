"""The defaults of a pod spec, shared by pods and by everything that has a pod template (k8s.io/api core/v1)."""

from __future__ import annotations

from typing import Any

from kaito.local.apiserver.strategies.base import set_default
from kaito.local.store.records import Object

FILE_MODE = 0o644
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
MODED_VOLUMES = ("configMap", "secret", "downwardAPI", "projected")


def default_pod_spec(spec: Object) -> None:
    set_default(spec, "restartPolicy", "Always")
    set_default(spec, "dnsPolicy", "ClusterFirst")
    set_default(spec, "schedulerName", "default-scheduler")
    set_default(spec, "terminationGracePeriodSeconds", 30)
    set_default(spec, "securityContext", {})
    if spec.get("serviceAccountName"):
        set_default(spec, "serviceAccount", spec["serviceAccountName"])
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for field in ("initContainers", "containers"):
        for container in _objects(spec.get(field)):
            _default_container(container)
    for volume in _objects(spec.get("volumes")):
        _default_volume(volume)


def _default_container(container: Object) -> None:
    image = str(container.get("image") or "")
    set_default(container, "imagePullPolicy", "Always" if _is_latest(image) else "IfNotPresent")
    set_default(container, "terminationMessagePath", "/dev/termination-log")
    set_default(container, "terminationMessagePolicy", "File")
    set_default(container, "resources", {})
    for port in _objects(container.get("ports")):
        set_default(port, "protocol", "TCP")
    for variable in _objects(container.get("env")):
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if isinstance(reference, dict):
            set_default(reference, "apiVersion", "v1")
    for name in PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            _default_probe(probe)
    limits = container["resources"].get("limits") if isinstance(container["resources"], dict) else None
    if isinstance(limits, dict):
        requests = container["resources"].setdefault("requests", {})
        for name, quantity in limits.items():
            requests.setdefault(name, quantity)


def _default_probe(probe: Object) -> None:
    for field, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1)):
        set_default(probe, field, value)
    set_default(probe, "failureThreshold", 3)
    if isinstance(probe.get("httpGet"), dict):
        set_default(probe["httpGet"], "scheme", "HTTP")
        set_default(probe["httpGet"], "path", "/")


def _default_volume(volume: Object) -> None:
    for name in MODED_VOLUMES:
        if isinstance(volume.get(name), dict):
            set_default(volume[name], "defaultMode", FILE_MODE)
    if isinstance(volume.get("hostPath"), dict):
        set_default(volume["hostPath"], "type", "")
    sources = {name for name, value in volume.items() if name != "name" and value is not None}
    if not sources:
        volume["emptyDir"] = {}


def _is_latest(image: str) -> bool:
    if "@" in image:
        return False
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return tag in ("", "latest")


def _objects(items: Any) -> list[Object]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
