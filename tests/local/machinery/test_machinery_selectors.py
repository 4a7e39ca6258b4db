"""Selectors: what parses, what matches, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.local.machinery.errors import StatusError
from kaito.local.machinery.selectors import from_label_selector, parse_field_selector, parse_label_selector

LABELS = {"app": "web", "tier": "front", "n": "5"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier=front", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("app in (web,db)", True),
        ("app notin (web, db)", False),
        ("missing notin (x)", True),
        ("app", True),
        ("!app", False),
        ("!missing,tier", True),
        ("n>4", True),
        ("n<4", False),
        ("app>4", False),
        ("missing=", False),
        ("example.com/role=a", False),
    ],
)
def test_label_selector(text: str, matches: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize("text", ["a b", "=a", ",", "a in b", "a in (b", "-a=b", "a=-b", "a=b=c", "n>x", "a/b/c", "!"])
def test_bad_label_selector(text: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_label_selector(text)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metadata.name=a", True),
        ("metadata.name==a,status.phase!=Running", True),
        ("metadata.name!=a", False),
        ("spec.nodeName=", True),
        ("spec.unschedulable=true", True),
        (r"metadata.labels=a\,b", False),
    ],
)
def test_field_selector(text: str, matches: bool) -> None:
    obj = {"metadata": {"name": "a"}, "spec": {"unschedulable": True}, "status": {"phase": "Pending"}}
    assert parse_field_selector(text).matches(obj) is matches


def test_field_selector_tells_the_exact_value() -> None:
    selector = parse_field_selector("metadata.name=a,metadata.namespace!=b")
    assert selector.exact("metadata.name") == "a"
    assert selector.exact("metadata.namespace") is None


@pytest.mark.parametrize("text", ["metadata.name", "=a", "a=b=c"])
def test_bad_field_selector(text: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_field_selector(text)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "missing", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_selector_objects(selector: Any, matches: bool) -> None:
    assert from_label_selector(selector).matches(LABELS) is matches


@given(st.text(alphabet="ab=!,()<> in/.-\\'é", max_size=20))
def test_only_status_errors_leave(text: str) -> None:
    for parse in (parse_label_selector, parse_field_selector):
        try:
            parse(text)
        except StatusError as refused:
            assert refused.code == 400
