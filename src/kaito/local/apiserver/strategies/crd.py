"""CustomResourceDefinition: names and conditions. It is served as soon as it is stored."""

from __future__ import annotations

from kaito.local.apiserver.strategies.base import FieldCauses, GenerationStrategy, child, set_default
from kaito.local.machinery.kinds import validate_crd
from kaito.local.store.records import Object

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


class CrdStrategy(GenerationStrategy):
    def default(self, obj: Object) -> None:
        spec = child(obj, "spec")
        set_default(spec, "conversion", {"strategy": "None"})
        names = child(spec, "names")
        kind = str(names.get("kind") or "")
        set_default(names, "listKind", f"{kind}List")
        set_default(names, "singular", kind.lower())

    def prepare_create(self, obj: Object) -> None:
        obj["status"] = establish(obj, obj["metadata"]["creationTimestamp"])

    def deletion_finalizers(self) -> tuple[str, ...]:
        """Its objects go before it does."""
        return (CLEANUP_FINALIZER,)

    def prepare_update(self, obj: Object, old: Object) -> None:
        obj["status"] = establish(obj, obj["metadata"]["creationTimestamp"])

    def validate(self, obj: Object, old: Object | None) -> FieldCauses:
        return validate_crd(obj)


def establish(crd: Object, now: str) -> Object:
    """The status of a CRD whose names are its own: accepted and established. Conditions keep their times."""
    spec = crd["spec"]
    versions = spec.get("versions") or []
    before = crd.get("status") or {}
    times = {one["type"]: one.get("lastTransitionTime", now) for one in before.get("conditions") or []}
    names = {name: value for name, value in spec["names"].items() if value}
    storage = [version["name"] for version in versions if version.get("storage")]
    stored = list(dict.fromkeys([*(before.get("storedVersions") or []), *storage]))
    conditions = [
        _condition("NamesAccepted", "NoConflicts", "no conflicts found", times.get("NamesAccepted", now)),
        _condition(
            "Established", "InitialNamesAccepted", "the initial names have been accepted", times.get("Established", now)
        ),
    ]
    return {"acceptedNames": names, "conditions": conditions, "storedVersions": stored}


def _condition(type_: str, reason: str, message: str, since: str) -> Object:
    return {"type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since}
