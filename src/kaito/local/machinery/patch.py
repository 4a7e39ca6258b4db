"""The three patch types that a client computes: JSON patch, JSON merge patch and strategic merge patch.

None changes its inputs. What cannot be applied is a StatusError: 400 for a patch that makes no sense, 422 for one that
does not fit the object. The fourth type, server-side apply, is in `apply`.
"""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch

from kaito.local.machinery.errors import StatusError, bad_request
from kaito.local.machinery.schema import Schema
from kaito.local.machinery.strategic import merge

Json = dict[str, Any]

_MAX_OPERATIONS = 10_000


def json_patch(doc: Json, ops: Any) -> Json:
    """RFC 6902. Raises StatusError 400 for a malformed patch, 422 for one that the document does not allow."""
    if not isinstance(ops, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(ops) > _MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(ops)}"
        raise StatusError(413, "RequestEntityTooLarge", message)
    if not all(isinstance(operation, dict) for operation in ops):
        raise bad_request("error decoding patch: every operation of a JSON patch is an object")
    try:
        patched = jsonpatch.JsonPatch(ops).apply(copy.deepcopy(doc))
    except (
        jsonpatch.JsonPatchException,
        jsonpatch.JsonPointerException,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
    ) as error:
        message = "the server rejected our request due to an error in our request"  # Kubernetes tells no more
        raise StatusError(422, "Invalid", message, {}) from error
    if not isinstance(patched, dict):
        raise StatusError(422, "Invalid", "the patch leaves something that is not an object")
    return patched


def merge_patch(doc: Json, patch: Any) -> Json:
    """RFC 7386."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a merge patch is an object")
    merged = _merge(doc, patch)
    assert isinstance(merged, dict)
    return merged


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def strategic_merge_patch(doc: Json, patch: Any, schema: Schema) -> Json:
    """Kubernetes' own merge patch, which merges lists by their keys. Raises StatusError 400 for a malformed patch."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch is an object")
    return merge(doc, patch, schema.root)
