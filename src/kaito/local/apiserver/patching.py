"""The four patches: which media type means which, and the change that each makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kaito.local.apiserver.body import decode_json, decode_yaml
from kaito.local.apiserver.call import Call
from kaito.local.apiserver.write import Change, Writer, Written
from kaito.local.machinery import errors
from kaito.local.machinery.apply import apply
from kaito.local.machinery.errors import compact
from kaito.local.machinery.patch import json_patch, merge_patch, strategic_merge_patch
from kaito.local.machinery.validation import json_type
from kaito.local.store.records import Object

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
CUSTOM_TYPES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
BUILTIN_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


async def patch(
    writer: Writer, call: Call, media_type: str, body: bytes, manager_given: bool, may_create: Callable[[], None]
) -> Written:
    """`may_create` raises 403 for who may not create; only an apply of what is not there asks."""
    accepted = CUSTOM_TYPES if call.resource.crd else BUILTIN_TYPES
    if media_type not in accepted:
        raise errors.unsupported_media_type(accepted) if call.resource.crd else errors.unsupported_patch_type()
    if media_type == APPLY_PATCH:
        if not manager_given:
            message = "Required value: is required for apply patch"
            cause = errors.FieldCause("fieldManager", message, errors.FIELD_REQUIRED)
            raise errors.invalid("meta.k8s.io", "PatchOptions", "", [cause])
        return await _apply(writer, call, _object(decode_yaml(body)), may_create)
    if call.options.force:
        message = "Forbidden: may not be specified for non-apply patch"
        cause = errors.FieldCause("force", message, errors.FIELD_FORBIDDEN)
        raise errors.invalid("meta.k8s.io", "PatchOptions", "", [cause])
    return await writer.update(call, change_of(call, media_type, decode_json(body)))


def change_of(call: Call, media_type: str, document: Any) -> Change:
    if media_type == JSON_PATCH:
        if not isinstance(document, list):
            raise errors.bad_request(not_decoded(document, "[]handlers.jsonPatchOp"))
        return lambda live: _patched(call, json_patch(live, document))
    merged = _object(document)
    if media_type == MERGE_PATCH:
        return lambda live: _patched(call, merge_patch(live, merged))
    schema = call.resource.info.schema
    return lambda live: _patched(call, strategic_merge_patch(live, merged, schema))


def _patched(call: Call, obj: Any) -> Object:
    """A patch may not move the object to another name, nor make it something else."""
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
        raise errors.bad_request("the patch does not leave an object with metadata")
    info = call.resource.info
    name = obj["metadata"].get("name")
    if name != call.name:
        raise errors.bad_request(
            f"the name of the object ({name or ''}) does not match the name on the URL ({call.name})"
        )
    if (
        not info.crd
        and call.subresource != "scale"
        and (obj.get("apiVersion"), obj.get("kind")) != (info.api_version, info.kind)
    ):
        message = f"Invalid value: {compact(compact(obj))}: it is not a {info.api_version} {info.kind} any more"
        raise errors.invalid("", "", "", [errors.FieldCause("patch", message)])
    return obj


async def _apply(writer: Writer, call: Call, applied: Object, may_create: Callable[[], None]) -> Written:
    """Server-side apply: makes the object when it is not there."""
    info = call.resource.info
    metadata = applied.get("metadata")
    if not isinstance(metadata, dict):
        metadata = applied["metadata"] = {}
    version, kind = str(applied.get("apiVersion") or ""), applied.get("kind")
    if kind and (version, kind) != (info.api_version, info.kind):
        group, _, version = version.rpartition("/")
        raise errors.bad_request(f"invalid object type: {group}/{version}, Kind={kind}")
    if metadata.get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    sent_version = metadata.get("resourceVersion")

    def merged(live: Object | None) -> Object:
        made = apply(
            live,
            applied,
            manager=call.options.manager,
            force=call.options.force,
            schema=info.schema,
            api_version=info.api_version,
            subresource=call.subresource,
            now=call.timestamp,
        )
        if sent_version and live is not None:
            made["metadata"]["resourceVersion"] = sent_version
        if metadata.get("uid") and live is not None:
            made["metadata"]["uid"] = metadata["uid"]
        return made

    writer.check_applied(call, applied)
    if not call.subresource and "status" in info.subresources:
        applied.pop("status", None)  # written through its own subresource alone
    if writer.exists(call):
        return await writer.update(call, merged, applied=True)
    if call.subresource:
        raise errors.not_found(info.group, info.plural, call.name)
    may_create()
    return await writer.create(call, merged(None), applied=True)


def _object(document: Any) -> Object:
    if not isinstance(document, dict):
        raise errors.bad_request(not_decoded(document, "map[string]interface {}"))
    return document


def not_decoded(document: Any, wanted: str) -> str:
    """What clients of Kubernetes know: the words of its JSON decoder."""
    given = "bool" if isinstance(document, bool) else json_type(document)
    return f"error decoding patch: json: cannot unmarshal {given} into Go value of type {wanted}"
