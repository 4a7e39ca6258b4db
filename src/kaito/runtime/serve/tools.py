"""Tools (functions) in chats: what the template is given, what an answer must look like, and calls out of a text.

How a model writes a call is its own: each family has marks around JSON, and its chat template shows which. A call that
must come (`tool_choice` "required", or a named function) needs no marks: the answer is then bound to the JSON itself.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kaito.runtime.serve.engines.base import Form
from kaito.runtime.serve.errors import InvalidRequest
from kaito.runtime.serve.text import overlap

MAX_TOOLS = 128


@dataclass(frozen=True)
class Style:
    """How a family of models writes its calls: JSON between `start` and `end`; an empty `start` is a bare object."""

    start: str
    end: str = ""


# A mark in the chat template -> the style. The first that is found counts.
STYLES: tuple[tuple[str, Style], ...] = (
    ("<tool_call>", Style("<tool_call>", "</tool_call>")),  # Hermes, Qwen 2.5 and 3
    ("[TOOL_CALLS]", Style("[TOOL_CALLS]")),  # Mistral
    ("<|tool_call|>", Style("<|tool_call|>", "<|/tool_call|>")),  # Phi-4-mini
    ("functools", Style("functools")),  # Phi-4-mini, as it writes them too
    ("<|python_tag|>", Style("")),  # Llama 3
    ("Environment: ipython", Style("")),
)
BARE = Style("")
MARKS = ("<|python_tag|>",)  # before a bare object


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str
    """JSON text, as OpenAI has it."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


@dataclass(frozen=True)
class Tools:
    """The tools of one request. `mode` says whether a call may, must, or must of one name come."""

    given: Sequence[Mapping[str, Any]]
    mode: Literal["auto", "required", "named"]
    style: Style = BARE
    name: str = ""
    only_one: bool = False

    @property
    def names(self) -> list[str]:
        return [str(one["function"]["name"]) for one in self.given]

    def form(self) -> Form | None:
        """What the answer is bound to where a call must come."""
        if self.mode == "auto":
            return None
        if self.mode == "named":
            return Form("json", json.dumps(self._parameters(self.name)), "tool_choice", is_compact=True)
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "parameters": self._parameters(name)},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
            for name in self.names
        ]
        most = {"maxItems": 1} if self.only_one else {}
        schema = {"type": "array", "minItems": 1, **most, "items": {"anyOf": calls}}
        return Form("json", json.dumps(schema), "tools", is_compact=True)

    def _parameters(self, name: str) -> Any:
        found = next(one["function"] for one in self.given if one["function"]["name"] == name)
        return found.get("parameters") or {"type": "object", "properties": {}}

    def read(self, text: str) -> tuple[str, list[Call]]:
        """The text without its calls, and the calls. A text that holds no whole call stays a text."""
        if self.mode == "named":
            return "", [Call(self.name, text)]
        if self.mode == "required":
            calls = _calls(_decoded(text))
            return ("", self._cut(calls)) if calls else (text, [])
        content, calls = _marked(text, self.style) if self.style.start else _bare(text)
        calls = [call for call in calls if call.name in self.names]
        return (content, self._cut(calls)) if calls else (text, [])

    def _cut(self, calls: list[Call]) -> list[Call]:
        return calls[:1] if self.only_one else calls


@dataclass
class ToolStream:
    """The same for a text in pieces: what is surely text goes on; from where a call may begin, all is held."""

    tools: Tools
    _held: str = ""
    _is_call: bool = field(default=False)
    _seen: bool = field(default=False)

    def push(self, text: str) -> str:
        """What can be shown of it."""
        self._held += text
        if self.tools.mode != "auto" or self._is_call:
            return ""
        start = self.tools.style.start
        if not start:
            return self._push_bare()
        place = self._held.find(start)
        self._is_call = place >= 0
        if place < 0:
            place = len(self._held) - overlap(self._held, start)
        shown, self._held = self._held[:place], self._held[place:]
        return shown

    def _push_bare(self) -> str:
        """A bare call is the whole answer: only its first character tells."""
        if not self._seen:
            begun = self._held.lstrip()
            if not begun or any(mark.startswith(begun) for mark in MARKS):
                return ""
            self._is_call = begun.startswith(("{", "[", *MARKS))
            self._seen = True
            if self._is_call:
                return ""
        shown, self._held = self._held, ""
        return shown

    def finish(self) -> tuple[str, list[Call]]:
        """What was held back, as text or as calls."""
        return self.tools.read(self._held) if self._held or self.tools.mode == "named" else ("", [])


def tools_of(given: Sequence[Any] | None, choice: Any, parallel: bool | None, template: str) -> Tools | None:
    """The tools of a request, or None where none are to be used. Raises InvalidRequest."""
    if choice == "none" or not given:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest("tool_choice asks for a tool, and there are no tools", "tool_choice")
        return None
    if len(given) > MAX_TOOLS:
        raise InvalidRequest(f"there are {len(given)} tools; at most {MAX_TOOLS} are taken", "tools")
    for place, tool in enumerate(given):
        _check(place, tool)
    if "tools" not in template:
        raise InvalidRequest(
            "this model's chat template takes no tools; leave tools out, or use a model that was made for them", "tools"
        )
    only_one = parallel is False
    style = next((style for mark, style in STYLES if mark in template), BARE)
    match choice:
        case None | "auto":
            return Tools(given, "auto", style, only_one=only_one)
        case "required":
            return Tools(given, "required", style, only_one=only_one)
        case {"type": "function", "function": {"name": str(name)}}:
            made = Tools(given, "named", style, name)
            if name in made.names:
                return made
            raise InvalidRequest(f"tool_choice names {name!r}; the tools are {', '.join(made.names)}", "tool_choice")
    raise InvalidRequest(
        'tool_choice must be "none", "auto", "required" or {"type": "function", "function": {"name": NAME}}',
        "tool_choice",
    )


def _check(place: int, tool: Any) -> None:
    where = f"tools[{place}]"
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        raise InvalidRequest(f'{where} must be {{"type": "function", "function": {{...}}}}', "tools")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise InvalidRequest(f"{where}.function.name is missing or no text", "tools")
    if not isinstance(function.get("parameters") or {}, dict):
        raise InvalidRequest(f"{where}.function.parameters is no JSON schema", "tools")


def _marked(text: str, style: Style) -> tuple[str, list[Call]]:
    """Calls between marks; what stands before the first is the text."""
    before, *parts = text.split(style.start)
    calls = []
    for part in parts:
        inside = part.partition(style.end)[0] if style.end else part
        calls += _calls(_decoded(inside))
    return before.rstrip("\n"), calls


def _bare(text: str) -> tuple[str, list[Call]]:
    """Objects one behind the other; Llama separates several by semicolons."""
    for mark in MARKS:
        text = text.replace(mark, "")
    calls: list[Call] = []
    rest = text.strip()
    while rest:
        try:
            content, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            break
        calls += _calls(content)
        rest = rest[end:].lstrip("; \n")
    return "", calls


def _decoded(text: str) -> Any:
    """The JSON at the beginning of `text`; None where there is none."""
    try:
        return json.JSONDecoder().raw_decode(text.strip())[0]
    except ValueError:
        return None


def _calls(content: Any) -> list[Call]:
    entries = content if isinstance(content, list) else [content]
    found = []
    for one in entries:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            continue
        arguments = one.get("arguments", one.get("parameters", {}))
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        found.append(Call(one["name"], written))
    return found
