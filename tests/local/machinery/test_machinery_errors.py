"""The statuses, word for word as clients and people know them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kaito.local.machinery import errors
from kaito.local.machinery.errors import FieldCause, StatusError

CASES: list[tuple[str, Callable[[], StatusError], int, str, str]] = [
    (
        "not found",
        lambda: errors.not_found("apps", "deployments", "a"),
        404,
        "NotFound",
        'deployments.apps "a" not found',
    ),
    ("not found in core", lambda: errors.not_found("", "pods", "a"), 404, "NotFound", 'pods "a" not found'),
    ("exists", lambda: errors.already_exists("", "pods", "a"), 409, "AlreadyExists", 'pods "a" already exists'),
    (
        "conflict",
        lambda: errors.conflict("", "pods", "a"),
        409,
        "Conflict",
        'Operation cannot be fulfilled on pods "a": the object has been modified; '
        "please apply your changes to the latest version and try again",
    ),
    (
        "invalid, one cause",
        lambda: errors.invalid("apps", "Deployment", "a", [FieldCause("spec.x", "Required value")]),
        422,
        "Invalid",
        'Deployment.apps "a" is invalid: spec.x: Required value',
    ),
    (
        "invalid, causes told once",
        lambda: errors.invalid("", "Pod", "a", [FieldCause("b", "B"), FieldCause("c", "C"), FieldCause("b", "B")]),
        422,
        "Invalid",
        'Pod "a" is invalid: [b: B, c: C]',
    ),
    ("unauthorized", errors.unauthorized, 401, "Unauthorized", "Unauthorized"),
    (
        "forbidden",
        lambda: errors.forbidden("", "pods", "a", "no"),
        403,
        "Forbidden",
        'pods "a" is forbidden: no',
    ),
    ("forbidden list", lambda: errors.forbidden("", "pods", "", "no"), 403, "Forbidden", "pods is forbidden: no"),
    ("too old", lambda: errors.too_old(3, 9), 410, "Expired", "too old resource version: 3 (9)"),
    (
        "one apply conflict",
        lambda: errors.apply_conflict([('"kubectl" using v1', ".spec.replicas")]),
        409,
        "Conflict",
        'Apply failed with 1 conflict: conflict with "kubectl" using v1: .spec.replicas',
    ),
    (
        "two apply conflicts",
        lambda: errors.apply_conflict([('"b"', ".spec.y"), ('"a"', ".spec.x"), ('"b"', ".spec.z")]),
        409,
        "Conflict",
        'Apply failed with 3 conflicts: conflicts with "a":\n- .spec.x\nconflicts with "b":\n- .spec.y\n- .spec.z',
    ),
]


@pytest.mark.parametrize(
    ("build", "code", "reason", "message"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_status(build: Callable[[], StatusError], code: int, reason: str, message: str) -> None:
    error = build()
    assert (error.code, error.status["code"], error.status["reason"]) == (code, code, reason)
    assert error.status["message"] == message
    assert error.status["kind"] == "Status"
    assert error.status["apiVersion"] == "v1"
    assert error.status["status"] == "Failure"


def test_details_name_the_object_and_its_causes() -> None:
    error = errors.invalid("apps", "Deployment", "a", [FieldCause("spec.x", "Required value", errors.FIELD_REQUIRED)])
    assert error.status["details"] == {
        "name": "a",
        "group": "apps",
        "kind": "Deployment",
        "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.x"}],
    }
