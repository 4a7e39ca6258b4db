"""From a row of any known shape to one Example.

Shapes: chat messages (OpenAI's, with tools), ShareGPT, prompt with completion, instruction with output (Alpaca),
question with answer, plain text. The columns named in DatasetConfig win over recognition.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kaito.runtime.data.rows import Example, Message, Unusable

MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
PROMPTS = ("prompt", "question", "query")
COMPLETIONS = ("completion", "response", "answer", "chosen")
INSTRUCTIONS = ("instruction",)
OUTPUTS = ("output", "response", "completion", "answer")
TEXTS = ("text", "content", "document")
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "function_call": "assistant",
}  # fmt: skip
ACCEPTED = (
    "messages (role, content); conversations (from, value); prompt and completion; "
    "instruction, input and output; question and answer; text"
)


@dataclass(frozen=True)
class Columns:
    """The columns that DatasetConfig names; empty where recognition decides."""

    messages: str = ""
    context: str = ""
    response: str = ""


def known_columns(names: Iterable[str]) -> bool:
    """Whether these column names make one of the accepted shapes."""
    found = {str(one).strip().lower() for one in names}
    return bool(
        found & set(MESSAGES)
        or (found & set(PROMPTS) and found & set(COMPLETIONS))
        or (found & set(INSTRUCTIONS) and found & set(OUTPUTS))
        or found & set(TEXTS)
    )


def parse_example(value: Any, columns: Columns | None = None) -> Example:
    """The Example in a row's value. Raises Unusable, which says what is wrong with the row."""
    if isinstance(value, list):  # a bare list of messages
        return _chat(value, None)
    if not isinstance(value, Mapping):
        raise Unusable(f"the row is {_name_of(value)}, not an object with columns")
    if columns is not None and (columns.messages or columns.context or columns.response):
        return _by_columns(value, columns)
    row = {str(key).strip().lower(): cell for key, cell in value.items()}
    for recognise in (_messages_row, _alpaca_row, _pair_row, _text_row):
        example = recognise(row)
        if example is not None:
            return example
    raise Unusable(f"no usable column among {', '.join(map(str, value)) or 'none'}")


def _by_columns(row: Mapping[str, Any], columns: Columns) -> Example:
    for name in filter(None, (columns.messages, columns.context, columns.response)):
        if name not in row:
            raise Unusable(f"the column {name!r} that DatasetConfig names is not among {', '.join(map(str, row))}")
    if columns.messages:
        return _chat(row[columns.messages], row.get("tools"))
    if columns.context:
        return _pair(row[columns.context], row[columns.response or "text"], columns.context, columns.response or "text")
    return Example("text", text=_text(row[columns.response], columns.response))


def _messages_row(row: Mapping[str, Any]) -> Example | None:
    for name in MESSAGES:
        if row.get(name) is not None:
            value = row[name]
            if name in ("messages", "conversations", "conversation") or isinstance(value, list):
                return _chat(value, row.get("tools"), row.get("system"))
    return None


def _alpaca_row(row: Mapping[str, Any]) -> Example | None:
    output = next((name for name in OUTPUTS if row.get(name) is not None), "")
    if row.get("instruction") is None or not output:
        return None
    question = _text(row["instruction"], "instruction")
    given = row.get("input") if row.get("input") is not None else row.get("context")
    if isinstance(given, str) and given.strip():
        question = f"{question}\n\n{given}"
    answer = _text(row[output], output)
    system = row.get("system")
    first = (Message("system", system),) if isinstance(system, str) and system.strip() else ()
    return Example("chat", messages=(*first, Message("user", question), Message("assistant", answer)))


def _pair_row(row: Mapping[str, Any]) -> Example | None:
    prompt = next((name for name in PROMPTS if row.get(name) is not None), "")
    completion = next((name for name in COMPLETIONS if row.get(name) is not None), "")
    if not prompt or not completion:
        return None
    return _pair(row[prompt], row[completion], prompt, completion, row.get("tools"))


def _text_row(row: Mapping[str, Any]) -> Example | None:
    name = next((name for name in TEXTS if row.get(name) is not None), "")
    return Example("text", text=_text(row[name], name)) if name else None


def _pair(prompt: Any, completion: Any, prompt_name: str, completion_name: str, tools: Any = None) -> Example:
    if isinstance(prompt, list) and isinstance(completion, list):
        return _chat([*prompt, *completion], tools)
    if isinstance(prompt, list):
        return _chat([*prompt, {"role": "assistant", "content": completion}], tools)
    return Example("pair", prompt=_text(prompt, prompt_name), completion=_text(completion, completion_name))


def _chat(value: Any, tools: Any, system: Any = None) -> Example:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unusable("the messages are a text that is not JSON") from None
    if not isinstance(value, (list, tuple)):
        raise Unusable(f"the messages are {_name_of(value)}, not a list")
    if not value:
        raise Unusable("the list of messages is empty")
    messages = [_message(one, index) for index, one in enumerate(value)]
    if isinstance(system, str) and system.strip() and messages[0].role != "system":
        messages.insert(0, Message("system", system))
    _check_order(messages)
    return Example("chat", messages=tuple(messages), tools=_tools(tools))


def _message(value: Any, index: int) -> Message:
    if not isinstance(value, Mapping):
        raise Unusable(f"message {index + 1} is {_name_of(value)}, not an object")
    raw = value.get("role", value.get("from"))
    if not isinstance(raw, str) or not raw.strip():
        raise Unusable(f"message {index + 1} has no role")
    role = ROLES.get(raw.strip().lower())
    if role is None:
        raise Unusable(f"message {index + 1} has the unknown role {raw[:40]!r}")
    extra = {
        key: cell
        for key, cell in value.items()
        if key in ("tool_calls", "tool_call_id", "name", "reasoning_content") and cell is not None
    }
    content = _content(value.get("content", value.get("value")), index, bool(extra.get("tool_calls")))
    return Message(role, content, extra)


def _content(value: Any, index: int, calls_tools: bool) -> str:
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        value = "".join(str(part.get("text") or "") for part in value)
    if value is None and calls_tools:
        return ""
    if isinstance(value, list):
        raise Unusable(f"message {index + 1} holds something else than text (images and audio are not trained on)")
    if not isinstance(value, str):
        raise Unusable(f"the content of message {index + 1} is {_name_of(value)}, not text")
    if not value.strip() and not calls_tools:
        raise Unusable(f"the content of message {index + 1} is empty")
    return value


def _check_order(messages: list[Message]) -> None:
    """What chat templates refuse or silently drop: no answer to learn, no question, a late system turn."""
    roles = [one.role for one in messages]
    if "assistant" not in roles:
        raise Unusable("no message of the assistant, so there is nothing to learn")
    if "system" in roles[1:]:
        raise Unusable("a system message stands after the first message")
    turns = [role for role in roles if role != "system"]
    if turns[0] != "user":
        raise Unusable(f"the first message after the system's is the {turns[0]}'s, not the user's")
    for before, after in itertools.pairwise(turns):
        if before == after and before != "tool":
            raise Unusable(f"two messages of the {before} follow each other")


def _tools(value: Any) -> str:
    if value is None or value in ("", "null", "[]", []):
        return ""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unusable("the column 'tools' is a text that is not JSON") from None
    if not isinstance(value, list):
        raise Unusable(f"the column 'tools' is {_name_of(value)}, not a list")
    return json.dumps(value, ensure_ascii=False, default=str) if value else ""


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        if not value.strip():
            raise Unusable(f"the column {name!r} is empty")
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise Unusable(f"the column {name!r} is {_name_of(value)}, not text")


def _name_of(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "empty" if value is None else names.get(type(value), f"of the type {type(value).__name__}")
