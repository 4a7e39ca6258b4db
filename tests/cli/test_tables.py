"""Tables are printed as kubectl prints them."""

from typing import Any

from kaito.cli.tables import render_table

TABLE: dict[str, Any] = {
    "columnDefinitions": [
        {"name": "Name", "priority": 0},
        {"name": "WorkspaceReady", "priority": 0},
        {"name": "State", "priority": 1},
    ],
    "rows": [
        {"cells": ["a", "True", "Ready"], "object": {"metadata": {"namespace": "one"}}},
        {"cells": ["longer-name", None, ""], "object": {"metadata": {"namespace": "two"}}},
    ],
}


def test_columns_line_up_and_lines_have_no_trailing_blanks() -> None:
    assert render_table(TABLE).splitlines() == [
        "NAME          WORKSPACEREADY",
        "a             True",
        "longer-name",
    ]


def test_wide_shows_columns_of_lower_priority() -> None:
    assert render_table(TABLE, wide=True).splitlines()[1] == "a             True             Ready"


def test_all_namespaces_come_first() -> None:
    lines = render_table(TABLE, namespaces=True).splitlines()
    assert lines[0].startswith("NAMESPACE   NAME")
    assert lines[2].startswith("two")


def test_no_rows_and_no_headers() -> None:
    assert render_table({"columnDefinitions": [], "rows": None}, headers=False) == ""
