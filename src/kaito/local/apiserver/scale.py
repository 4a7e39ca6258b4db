"""The scale subresource: an autoscaling/v1 Scale read from, and written into, the object that it scales."""

from __future__ import annotations

from typing import Any

from kaito.local.apiserver.call import Call
from kaito.local.apiserver.write import BUILTIN_PATHS, Change, served
from kaito.local.machinery import errors
from kaito.local.machinery.kinds import ScalePaths
from kaito.local.store.records import Object, Record


def scale_of(call: Call, obj: Object) -> Object:
    """The Scale that the object shows."""
    paths = call.resource.info.scale or BUILTIN_PATHS
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Object = {"replicas": _read(obj, paths.status_replicas) or 0}
    selector = _selector(obj, paths)
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: obj["metadata"][name] for name in kept if name in obj["metadata"]},
        "spec": {"replicas": _read(obj, paths.spec_replicas) or 0},
        "status": status,
    }


def scale_of_record(call: Call, record: Record) -> Object:
    return scale_of(call, served(call, record))


def rescale(call: Call, change: Change) -> Change:
    """From a change of the Scale to the change of the object that it stands for."""
    paths = call.resource.info.scale or BUILTIN_PATHS

    def changed(live: Object) -> Object:
        scale = change(scale_of(call, live))
        if scale.get("kind") != "Scale" or not isinstance(scale.get("spec", {}), dict | None):
            raise errors.bad_request("the body of a write to scale must be an autoscaling/v1 Scale")
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            message = f"Invalid value: {replicas}: must be greater than or equal to 0"
            raise errors.invalid("autoscaling", "Scale", call.name, [errors.FieldCause("spec.replicas", message)])
        _write(live, paths.spec_replicas, replicas)
        sent = (scale.get("metadata") or {}).get("resourceVersion")
        if sent:
            live["metadata"]["resourceVersion"] = sent
        return live

    return changed


def _selector(obj: Object, paths: ScalePaths) -> str:
    if paths.label_selector:
        return str(_read(obj, paths.label_selector) or "")
    labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _read(obj: Object, path: str) -> Any:
    value: Any = obj
    for part in path.lstrip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _write(obj: Object, path: str, value: int) -> None:
    *parents, last = path.lstrip(".").split(".")
    for part in parents:
        obj = obj.setdefault(part, {})
    obj[last] = value
