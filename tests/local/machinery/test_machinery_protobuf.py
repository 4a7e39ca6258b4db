"""Protobuf bodies: what typed clients send, and what nobody should."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.local.machinery import protobuf, wire
from kaito.local.machinery.builtin_schemas import definitions
from kaito.local.machinery.errors import StatusError
from kaito.local.machinery.model_names import schema_name
from kaito.local.machinery.protobuf import decode

Json = dict[str, Any]


def message(**fields: bytes | str | int | list[bytes]) -> bytes:
    """A message from `_NUMBER=value`."""
    parts: list[bytes] = []
    for name, value in fields.items():
        number = int(name.removeprefix("_"))
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                parts.append(wire.varint(number << 3) + wire.varint(item))
            else:
                parts.append(wire.delimited(number, item.encode() if isinstance(item, str) else item))
    return b"".join(parts)


def body(api_version: str, kind: str, raw: bytes, **more: bytes | str) -> bytes:
    return b"k8s\x00" + message(_1=message(_1=api_version, _2=kind), _2=raw, _3=b"", _4=b"", **more)


def metadata(name: str) -> bytes:
    # As Go writes it: texts that are not set are empty, the time that is not set is an empty message.
    return message(_1=name, _2="", _3="", _4="", _5="", _6="", _7=0, _8=b"")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            body("v1", "Namespace", message(_1=metadata("demo"), _2=b"", _3=message(_1=""))),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}, "spec": {}, "status": {}},
            id="namespace",
        ),
        pytest.param(
            body(
                "v1",
                "Secret",
                message(_1=metadata("s"), _2=[message(_1="a", _2=b"\x00\xff"), message(_1="b", _2=b"")], _3="Opaque"),
            ),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "s"},
                "data": {"a": "AP8=", "b": ""},
                "type": "Opaque",
            },
            id="secret with bytes",
        ),
        pytest.param(
            body(
                "apps/v1",
                "Deployment",
                message(
                    _1=metadata("d"),
                    _2=message(
                        _1=0,
                        _2=message(_1=message(_1="app", _2="d")),
                        _3=message(
                            _1=metadata(""),
                            _2=message(
                                _1=[message(_1="v", _2=message(_2=b""))],
                                _2=[
                                    message(
                                        _1="c",
                                        _2="i",
                                        _6=[message(_1="", _2=0, _3=80, _4="TCP")],
                                        _8=message(_1=[message(_1="cpu", _2=message(_1="500m"))]),
                                        _10=message(_1=message(_2=message(_1="/", _2=message(_1=1, _2=0, _3="http")))),
                                    )
                                ],
                                _11=0,
                            ),
                        ),
                        _5=0,
                    ),
                ),
            ),
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "d"},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": "d"}},
                    "template": {
                        "metadata": {},
                        "spec": {
                            "volumes": [{"name": "v", "emptyDir": {}}],
                            "containers": [
                                {
                                    "name": "c",
                                    "image": "i",
                                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                                    "resources": {"limits": {"cpu": "500m"}},
                                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                                }
                            ],
                        },
                    },
                },
            },
            id="deployment with pointers, inlined fields, quantities and ports",
        ),
        pytest.param(
            body(
                "coordination.k8s.io/v1",
                "Lease",
                message(_1=metadata("l"), _2=message(_1="me", _2=15, _4=message(_1=1767355200, _2=123456000))),
            ),
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "l"},
                "spec": {
                    "holderIdentity": "me",
                    "leaseDurationSeconds": 15,
                    "renewTime": "2026-01-02T12:00:00.123456Z",
                },
            },
            id="lease with micro time",
        ),
        pytest.param(
            body("apps/v1", "DeleteOptions", message(_1=0, _4="Background")),
            {
                "apiVersion": "apps/v1",
                "kind": "DeleteOptions",
                "gracePeriodSeconds": 0,
                "propagationPolicy": "Background",
            },
            id="delete options in any group",
        ),
        pytest.param(
            body(
                "authorization.k8s.io/v1",
                "SelfSubjectAccessReview",
                message(_2=message(_1=message(_1="default", _2="list", _5="pods")), _3=message(_1=0, _3="")),
            ),
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "pods"}},
                "status": {"allowed": False},
            },
            id="access review",
        ),
    ],
)
def test_decode(raw: bytes, expected: Json) -> None:
    assert decode(raw) == expected


def test_negative_numbers() -> None:
    raw = body("v1", "Pod", message(_2=message(_25=-5)))
    assert decode(raw)["spec"] == {"priority": -5}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "has to begin with"),
        (b"{}", "has to begin with"),
        (b"k8s\x00\xff", "cannot be decoded"),
        (body("v1", "Nonsense", b""), "is not known as protobuf"),
        (body("v1", "Pod", b"\x0a\x7f"), "ends inside a field"),
        (body("v1", "Pod", message(_1=3)), "a number where"),
        (body("v1", "Pod", message(_2=message(_25="text"))), "a text where"),
        (body("v1", "Pod", b"\x0b"), "wire type 3"),
    ],
)
def test_refused(raw: bytes, words: str) -> None:
    with pytest.raises(StatusError) as refused:
        decode(raw)
    assert refused.value.code == 400
    assert words in refused.value.message


@given(st.binary(max_size=60), st.sampled_from(["Pod", "Secret", "Event", "Service", "DeleteOptions"]))
def test_only_status_errors_leave(noise: bytes, kind: str) -> None:
    for raw in (noise, b"k8s\x00" + noise, body("v1", kind, noise)):
        try:
            decode(raw)
        except StatusError as refused:
            assert refused.code == 400


def json_fields(name: str) -> set[str]:
    found: set[str] = set()
    for field in protobuf._fields(name).values():
        found |= {field.name} if field.name else json_fields(field.type)
    return found


# What the models say of newer versions than the field tables, or the other way round.
NEWER = {"runningInUserNamespace"}


@pytest.mark.parametrize("name", [name for name in protobuf._tables() if schema_name(name) in definitions()])
def test_field_tables_cover_the_schemas(name: str) -> None:
    expected = set(definitions()[schema_name(name)].get("properties", {}))
    assert expected - json_fields(name) - {"apiVersion", "kind"} <= NEWER
