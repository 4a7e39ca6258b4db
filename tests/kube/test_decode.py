"""What real servers and people write where a field is empty."""

from __future__ import annotations

import msgspec
import pytest

from kaito.api.core import Pod
from kaito.kube.decode import decode_object
from kaito.kube.resources import NODES
from kaito.local.workloads.resources import EndpointSlice


def test_null_is_an_absent_field() -> None:
    found = decode_object(EndpointSlice, b'{"metadata":{"name":"a","labels":null},"endpoints":null,"ports":null}')
    assert found == decode_object(EndpointSlice, b'{"metadata":{"name":"a"}}')


def test_null_deep_inside_costs_nothing_beside_it() -> None:
    raw = b'{"metadata":{"name":"n"},"spec":{"taints":null},"status":{"allocatable":{"cpu":"4"},"conditions":null}}'
    assert decode_object(NODES.model, raw).status.allocatable == {"cpu": "4"}


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"metadata": 3}', b"null"])
def test_what_is_broken_stays_broken(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_object(Pod, raw)
