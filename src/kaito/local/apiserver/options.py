"""The query parameters and bodies that steer a verb: ListOptions, DeleteOptions and their kin, parsed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaito.local.machinery.errors import FieldCause, bad_request, invalid
from kaito.local.store.records import Object

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})
PROPAGATION = ("Foreground", "Background", "Orphan")
FIELD_VALIDATION = ("Ignore", "Strict", "Warn")


@dataclass(frozen=True, slots=True)
class WriteOptions:
    dry_run: bool = False
    manager: str = ""
    field_validation: str = "Warn"
    force: bool = False


@dataclass(frozen=True, slots=True)
class ListOptions:
    labels: str = ""
    fields: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    version_match: str = ""
    watch: bool = False
    bookmarks: bool = False
    timeout: int | None = None
    """Seconds."""
    send_initial: bool | None = None


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    grace_seconds: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


def write_options(query: Mapping[str, str], user_agent: str) -> WriteOptions:
    """The field manager defaults to the client's name, as Kubernetes has it: the user agent up to its first slash."""
    validation = query.get("fieldValidation", "") or "Warn"
    if validation not in FIELD_VALIDATION:
        raise _unsupported("fieldValidation", validation, ("", *FIELD_VALIDATION), "CreateOptions")
    manager = query.get("fieldManager", "")
    if len(manager) > 128:
        message = "Too long: may not be more than 128 bytes"
        raise invalid("meta.k8s.io", "PatchOptions", "", [FieldCause("fieldManager", message, "FieldValueTooLong")])
    return WriteOptions(
        dry_run=_dry_run(query.get("dryRun", ""), "CreateOptions"),
        manager=manager or user_agent.split("/", 1)[0][:128] or "unknown",
        field_validation=validation,
        force=_boolean(query, "force"),
    )


def list_options(query: Mapping[str, str]) -> ListOptions:
    send_initial = _boolean(query, "sendInitialEvents") if "sendInitialEvents" in query else None
    version = query.get("resourceVersion", "")
    if (version and not version.isascii()) or (version and not version.isdigit()):
        reason = f'strconv.ParseUint: parsing "{version}": invalid syntax'
        raise bad_request(f'invalid resource version: resourceVersion: Invalid value: "{version}": {reason}')
    return ListOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=_integer(query, "limit") or 0,
        continue_token=query.get("continue", ""),
        resource_version=version,
        version_match=query.get("resourceVersionMatch", ""),
        watch=_boolean(query, "watch"),
        bookmarks=_boolean(query, "allowWatchBookmarks"),
        timeout=_integer(query, "timeoutSeconds"),
        send_initial=send_initial,
    )


def delete_options(query: Mapping[str, str], body: Object | None) -> DeleteOptions:
    """From the body where there is one, from the query otherwise, as Kubernetes reads them."""
    if body:
        return _delete_options_of(body)
    return DeleteOptions(
        grace_seconds=_grace(_integer(query, "gracePeriodSeconds")),
        propagation=_propagation(query.get("propagationPolicy", ""), orphan=query.get("orphanDependents")),
        dry_run=_dry_run(query.get("dryRun", ""), "DeleteOptions"),
    )


def _delete_options_of(body: Object) -> DeleteOptions:
    if body.get("kind", "DeleteOptions") != "DeleteOptions":
        raise bad_request(f"the body of a delete must be DeleteOptions, not {body.get('kind')}")
    preconditions = body.get("preconditions") or {}
    grace = body.get("gracePeriodSeconds")
    dry_run = body.get("dryRun") or []
    if (
        not isinstance(preconditions, dict)
        or not isinstance(dry_run, list)
        or not isinstance(grace, int | None)
        or isinstance(grace, bool)
    ):
        raise bad_request("DeleteOptions: preconditions must be an object, dryRun a list, gracePeriodSeconds a number")
    return DeleteOptions(
        grace_seconds=_grace(grace),
        propagation=_propagation(str(body.get("propagationPolicy") or ""), orphan=body.get("orphanDependents")),
        uid=str(preconditions.get("uid") or ""),
        resource_version=str(preconditions.get("resourceVersion") or ""),
        dry_run=_dry_run(str(dry_run[0]) if dry_run else "", "DeleteOptions"),
    )


def _propagation(policy: str, *, orphan: object) -> str:
    if policy and policy not in PROPAGATION:
        raise _unsupported("propagationPolicy", policy, (*PROPAGATION, "nil"), "DeleteOptions")
    if not policy and orphan in (True, "true"):
        return "Orphan"
    return policy


def _grace(seconds: int | None) -> int | None:
    return None if seconds is None else max(seconds, 1) if seconds < 0 else seconds


def _dry_run(value: str, kind: str) -> bool:
    if value not in ("", "All"):
        message = f'Unsupported value: ["{value}"]: supported values: "All"'
        raise invalid("meta.k8s.io", kind, "", [FieldCause("dryRun", message, "FieldValueNotSupported")])
    return value == "All"


def _boolean(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "")
    if value not in TRUE and value not in FALSE:
        raise bad_request(f"query parameter {name} must be a boolean, not {value!r}")
    return value in TRUE


def _integer(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name, "")
    if not value:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax') from error


def _unsupported(field_name: str, value: str, known: tuple[str, ...], kind: str) -> Exception:
    supported = ", ".join(f'"{name}"' for name in known)
    cause = FieldCause(
        field_name, f'Unsupported value: "{value}": supported values: {supported}', "FieldValueNotSupported"
    )
    return invalid("meta.k8s.io", kind, "", [cause])
