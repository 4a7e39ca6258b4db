"""Calls out of texts, whole and in pieces, as the families of models write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kaito.runtime.serve.errors import InvalidRequest
from kaito.runtime.serve.tools import ToolStream, tools_of

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "subtract"}}
CALL = '{"name": "add", "arguments": {"a": 1}}'
TEMPLATES = {
    "hermes": "{{ tools }} <tool_call>",
    "mistral": "{{ tools }} [TOOL_CALLS]",
    "phi": "{{ tools }} <|tool_call|>",
    "llama": "{{ tools }} <|python_tag|>",
}
TWO = [("add", '{"a": 1}'), ("subtract", '{"b": 2}')]

CASES = [
    ("hermes", f"Well.\n<tool_call>\n{CALL}\n</tool_call>", "Well.", TWO[:1]),
    (
        "hermes",
        f'<tool_call>{CALL}</tool_call><tool_call>{{"name":"subtract","arguments":{{"b":2}}}}</tool_call>',
        "",
        TWO,
    ),
    ("hermes", "No call, 1 < 2.", "No call, 1 < 2.", []),
    ("hermes", "<tool_call>{broken", "<tool_call>{broken", []),
    ("hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', "<tool_call>", []),
    ("mistral", f'[TOOL_CALLS] [{CALL}, {{"name": "subtract", "arguments": {{"b": 2}}}}]', "", TWO),
    ("phi", f"<|tool_call|>[{CALL}]<|/tool_call|>", "", TWO[:1]),
    ("llama", '<|python_tag|>{"name": "add", "parameters": {"a": 1}}', "", TWO[:1]),
    ("llama", '{"name": "add", "parameters": {"a": 1}}; {"name": "subtract", "parameters": {"b": 2}}', "", TWO),
    ("llama", '{"answer": 4}', '{"answer": 4}', []),
    ("llama", "It is {4}.", "It is {4}.", []),
]


@pytest.mark.parametrize(("family", "text", "content", "calls"), CASES)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_whole_and_in_pieces(family: str, text: str, content: str, calls: list[Any], size: int) -> None:
    tools = tools_of([TOOL, OTHER], "auto", None, TEMPLATES[family])
    assert tools is not None
    whole, found = tools.read(text)
    assert [(call.name, call.arguments) for call in found] == calls
    assert whole.startswith(content)
    stream = ToolStream(tools)
    shown = "".join(stream.push(text[place : place + size]) for place in range(0, len(text), size))
    rest, streamed = stream.finish()
    assert [(call.name, call.arguments) for call in streamed] == calls
    assert (shown + rest).rstrip("\n") == whole


def test_only_one_call_where_no_more_are_wanted() -> None:
    tools = tools_of([TOOL, OTHER], "auto", False, TEMPLATES["hermes"])
    assert tools is not None
    assert len(tools.read(f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>")[1]) == 1


def test_a_call_that_must_come_is_bound_to_the_tools() -> None:
    tools = tools_of([TOOL, OTHER], "required", None, TEMPLATES["hermes"])
    assert tools is not None
    form = tools.form()
    assert form is not None
    schema = json.loads(form.content)
    assert [one["properties"]["name"]["const"] for one in schema["items"]["anyOf"]] == ["add", "subtract"]
    assert tools.read('[{"name": "add", "parameters": {"a": 1}}]')[1][0].arguments == '{"a": 1}'


@pytest.mark.parametrize(
    ("given", "choice", "words"),
    [
        ([], "required", "there are no tools"),
        ([TOOL], "sometimes", "tool_choice must be"),
        ([TOOL], {"type": "function", "function": {"name": "x"}}, "the tools are add"),
        ([{"type": "function"}], "auto", "tools[0]"),
        ([{"type": "function", "function": {"name": "a", "parameters": []}}, TOOL], "auto", None),
        ([{"type": "function", "function": {"name": "a", "parameters": [1]}}], "auto", "no JSON schema"),
        ([TOOL] * 200, "auto", "at most 128"),
    ],
)
def test_wrong_tools_are_refused(given: list[Any], choice: Any, words: str | None) -> None:
    if words is None:
        assert tools_of(given, choice, None, TEMPLATES["hermes"]) is not None
        return
    with pytest.raises(InvalidRequest) as refused:
        tools_of(given, choice, None, TEMPLATES["hermes"])
    assert words in refused.value.message
