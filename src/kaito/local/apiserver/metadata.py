"""What every object's metadata must be, and what clients may not set in it."""

from __future__ import annotations

import re
from collections.abc import Callable

from kaito.local.apiserver.call import Call
from kaito.local.machinery.errors import FieldCause, bad_request, compact, conflict, invalid
from kaito.local.store.records import Object

CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion", CRD_FINALIZER})
DNS_LABEL_KINDS = frozenset({"Namespace", "Service"})
PATH_SEGMENT_KINDS = frozenset({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
ANNOTATIONS_LIMIT = 256 * 1024
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
SYSTEM_FIELDS = (
    "creationTimestamp",
    "uid",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)


def check_type(call: Call, obj: Object) -> None:
    """The body's apiVersion and kind are those of the URL, and its metadata is an object.

    A built-in kind may be sent without them, as the official Python client does: the URL says what it is.
    """
    info = call.resource.info
    if not call.resource.crd:
        obj["kind"] = obj.get("kind") or info.kind
        obj["apiVersion"] = obj.get("apiVersion") or info.api_version
    version, kind = obj.get("apiVersion"), obj.get("kind")
    if not kind:
        raise bad_request("Object 'Kind' is missing in the body")
    if kind != info.kind and version == info.api_version and call.resource.crd:
        cause = FieldCause("kind", f"Invalid value: {compact(kind)}: must be {info.kind}")
        raise invalid(info.group, str(kind), _name_of(obj), [cause])
    if kind != info.kind and not call.resource.crd:
        inner = f"{version}.{kind}"
        raise bad_request(
            f'{kind} in version "{info.version}" cannot be handled as a {info.kind}: '
            f"converting ({inner}) to ({info.group or 'core'}.{info.kind}): unknown conversion"
        )
    if kind != info.kind:
        raise bad_request(f"the kind in the data ({kind}) does not match the expected kind ({info.kind})")
    if version != info.api_version:
        raise bad_request(
            f"the API version in the data ({version or ''}) does not match the expected API version "
            f"({info.api_version})"
        )
    metadata = obj.setdefault("metadata", {})
    if metadata is None:
        obj["metadata"] = {}
    elif not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    check_metadata_types(call, obj["metadata"])


def _name_of(obj: Object) -> str:
    metadata = obj.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""


def check_metadata_types(call: Call, metadata: Object) -> None:
    """The parts that this server itself reads have their types; the rest is the schema's to check."""
    wrong = [
        name
        for name in ("name", "namespace", "generateName", "uid", "resourceVersion")
        if not isinstance(metadata.get(name), str | None)
    ]
    wrong += [name for name in ("finalizers", "ownerReferences") if not isinstance(metadata.get(name), list | None)]
    for name in ("labels", "annotations"):
        entries = metadata.get(name)
        if not isinstance(entries, dict | None) or not all(
            isinstance(value, str | None) for value in (entries or {}).values()
        ):
            wrong.append(name)
        elif entries and None in entries.values():
            metadata[name] = {key: value or "" for key, value in entries.items()}
    if not all(isinstance(finalizer, str) for finalizer in metadata.get("finalizers") or []):
        wrong.append("finalizers")
    if not all(isinstance(owner, dict) for owner in metadata.get("ownerReferences") or []):
        wrong.append("ownerReferences")
    created = metadata.get("creationTimestamp")
    if created is not None and not (isinstance(created, str) and _TIME.fullmatch(created)):
        wrong.append("creationTimestamp")
    if wrong:
        kind = call.resource.info.kind
        raise bad_request(f"{kind} in the body cannot be read: metadata.{wrong[0]} has the wrong type")


def check_address(call: Call, obj: Object) -> None:
    """Name and namespace of the body agree with the URL; empty ones are filled in."""
    metadata = obj["metadata"]
    if metadata.get("namespace") and metadata["namespace"] != call.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
            if call.resource.info.namespaced
            else f"namespace may not be set on {call.resource.info.kind}, which is cluster-scoped"
        )
    if call.namespace:
        metadata["namespace"] = call.namespace
    else:
        metadata.pop("namespace", None)
    if call.name:
        if metadata.get("name") and metadata["name"] != call.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
            )
        metadata["name"] = call.name


def prepare_create(call: Call, obj: Object, random_hex: Callable[[int], str]) -> None:
    metadata = obj["metadata"]
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    for name in SYSTEM_FIELDS:
        metadata.pop(name, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"][:58] + _suffix(random_hex)
    metadata["uid"] = _uuid(random_hex)
    metadata["creationTimestamp"] = call.timestamp
    if call.resource.strategy.has_generation:
        metadata["generation"] = 1


def prepare_update(call: Call, obj: Object, old: Object) -> None:
    """Fields of the system come from the stored object. Raises 409 when the uid is another life's."""
    metadata, before = obj["metadata"], old["metadata"]
    uid = metadata.get("uid")
    if uid and uid != before["uid"]:
        info = call.resource.info
        message = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}"
        raise conflict(info.group, info.plural, call.name, message)
    metadata["resourceVersion"] = before["resourceVersion"]
    for name in SYSTEM_FIELDS:
        if name in before:
            metadata[name] = before[name]
        else:
            metadata.pop(name, None)
    if before.get("generateName"):
        metadata.setdefault("generateName", before["generateName"])
    _check_finalizers(call, metadata, before)


def validate(call: Call, obj: Object) -> list[FieldCause]:
    metadata = obj["metadata"]
    causes = _name_causes(call, metadata)
    for field in ("labels", "annotations"):
        for key in metadata.get(field) or {}:
            causes += _qualified_causes(f"metadata.{field}", key)
    for value in (metadata.get("labels") or {}).values():
        if len(value) > 63 or (value and not QUALIFIED_NAME.fullmatch(value)):
            rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
            rule += (
                "must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex "
                "used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            )
            message = "must be no more than 63 characters" if len(value) > 63 else rule
            causes.append(FieldCause("metadata.labels", f'Invalid value: "{value}": {message}'))
    annotations = metadata.get("annotations") or {}
    if sum(len(key) + len(value) for key, value in annotations.items()) > ANNOTATIONS_LIMIT:
        message = f"Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"
        causes.append(FieldCause("metadata.annotations", message, "FieldValueTooLong"))
    for position, finalizer in enumerate(metadata.get("finalizers") or []):
        causes += _qualified_causes("metadata.finalizers", finalizer)
        if not call.resource.crd and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            message = (
                f'Invalid value: "{finalizer}": name is neither a standard finalizer name nor is it fully qualified'
            )
            causes.append(FieldCause(f"metadata.finalizers[{position}]", message))
    return causes + _owner_causes(metadata.get("ownerReferences") or [])


def _owner_causes(owners: list[Object]) -> list[FieldCause]:
    causes = []
    for owner in owners:
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                what = "version must" if field == "apiVersion" else "must"
                message = f'Invalid value: "": {what} not be empty'
                causes.append(FieldCause(f"metadata.ownerReferences.{field}", message))
    controllers = [f"{owner.get('kind')}/{owner.get('name')}" for owner in owners if owner.get("controller") is True]
    if len(controllers) > 1:
        message = (
            f"Invalid value: {compact(owners)}: Only one reference can have Controller set to true. "
            f'Found "true" in references for {" and ".join(controllers[:2])}'
        )
        causes.append(FieldCause("metadata.ownerReferences", message))
    return causes


def _check_finalizers(call: Call, metadata: Object, before: Object) -> None:
    if not before.get("deletionTimestamp"):
        return
    added = set(metadata.get("finalizers") or []) - set(before.get("finalizers") or [])
    if added:
        names = ", ".join(f'"{name}"' for name in sorted(added))
        message = (
            "Forbidden: no new finalizers can be added if the object is being deleted, "
            f"found new finalizers []string{{{names}}}"
        )
        info = call.resource.info
        raise invalid(
            info.group, info.kind, call.name, [FieldCause("metadata.finalizers", message, "FieldValueForbidden")]
        )


def _name_causes(call: Call, metadata: Object) -> list[FieldCause]:
    name = metadata.get("name") or ""
    if not name:
        message = "Required value: name or generateName is required"
        return [FieldCause("metadata.name", message, "FieldValueRequired")]
    kind = call.resource.info.kind
    if kind in PATH_SEGMENT_KINDS:
        bad = name in (".", "..") or "/" in name or "%" in name
        return [FieldCause("metadata.name", f"Invalid value: \"{name}\": may not contain '/'")] if bad else []
    if kind in DNS_LABEL_KINDS and "." in name and not call.resource.info.group:
        return [FieldCause("metadata.name", f'Invalid value: "{name}": must not contain dots')]
    pattern, rule, limit = SUBDOMAIN, SUBDOMAIN_RULE, 253
    if kind in DNS_LABEL_KINDS and not call.resource.info.group:
        pattern, rule, limit = LABEL, LABEL_RULE, 63
    if len(name) > limit:
        message = f'Invalid value: "{name}": must be no more than {limit} characters'
        return [FieldCause("metadata.name", message)]
    if not pattern.fullmatch(name):
        return [FieldCause("metadata.name", f'Invalid value: "{name}": {rule}')]
    return []


def _qualified_causes(field: str, key: str) -> list[FieldCause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not prefix:
        return [FieldCause(field, f'Invalid value: "{key}": prefix part must be non-empty')]
    if slash and (not prefix or len(prefix) > 253 or not SUBDOMAIN.fullmatch(prefix)):
        return [FieldCause(field, f'Invalid value: "{key}": prefix part {SUBDOMAIN_RULE}')]
    if not name:
        return [FieldCause(field, f'Invalid value: "{key}": name part must be non-empty')]
    if len(name) > 63:
        return [FieldCause(field, f'Invalid value: "{key}": name part must be no more than 63 characters')]
    if not QUALIFIED_NAME.fullmatch(name):
        rule = (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        )
        return [FieldCause(field, f'Invalid value: "{key}": {rule}')]
    return []


def _suffix(random_hex: Callable[[int], str]) -> str:
    """Five characters of the alphabet that Kubernetes uses: no vowels, so no words."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    number = int(random_hex(8), 16)
    letters = []
    for _ in range(5):
        number, position = divmod(number, len(alphabet))
        letters.append(alphabet[position])
    return "".join(letters)


def _uuid(random_hex: Callable[[int], str]) -> str:
    digits = random_hex(16)
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def drop_empty(metadata: Object) -> None:
    """Absent and empty are one for these, and Kubernetes writes neither."""
    for name in ("labels", "annotations", "finalizers", "ownerReferences", "generateName"):
        if name in metadata and not metadata[name]:
            del metadata[name]
