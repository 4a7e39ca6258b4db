"""Requests of the OpenAI API, decoded and checked. Source: OpenAI's API reference; vLLM's additions are marked.

Unknown fields are ignored, as OpenAI's and vLLM's servers do; a known field that is not built is refused, because an
answer that silently leaves it out would be a wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kaito.runtime.serve.engines.base import Form, Guide, Sampling, Vocabulary
from kaito.runtime.serve.errors import InvalidRequest
from kaito.runtime.serve.forms import form_of
from kaito.runtime.serve.tools import Tools

MAX_CHOICES = 16
Stop = str | list[str] | None
Fraction = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=0, le=1 << 31)]
Seed = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Common(msgspec.Struct, kw_only=True):
    """Fields of both endpoints. Those below `top_k` are vLLM's."""

    model: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stop: Stop = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1 << 31)] | None = None
    min_p: Fraction | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[Count] | None = None
    include_stop_str_in_output: bool | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @property
    def form(self) -> Form | None:
        """Raises InvalidRequest."""
        guided = {"json": self.guided_json, "regex": self.guided_regex, "choice": self.guided_choice}
        return form_of(
            self.response_format, {**guided, "grammar": self.guided_grammar, **(self.structured_outputs or {})}
        )

    @property
    def stops(self) -> list[str]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(given) > MAX_CHOICES:
            raise InvalidRequest(f"stop holds {len(given)} texts; at most {MAX_CHOICES} are taken", "stop")
        return given


class ChatRequest(Common, kw_only=True):
    messages: list[dict[str, Any]]
    max_tokens: Annotated[int, Meta(ge=1, le=1 << 31)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=1 << 31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(Common, kw_only=True):
    prompt: str | list[str | int | list[int]] = ""
    max_tokens: Count | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


def decode(content: bytes, type_: type[Any]) -> Any:
    """Raises InvalidRequest that names the field and what it should be."""
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error) or "nested too deeply"
        param = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else None
        raise InvalidRequest(f"the request body is wrong: {text}", param) from error


@dataclass(frozen=True)
class Served:
    """What a request is measured by: the context in tokens, the vocabulary's size, and the model's own sampling."""

    context: int
    vocabulary: int
    defaults: Mapping[str, float] = field(default_factory=dict)


def sampling_of(
    request: Common,
    served: Served,
    prompt: Sequence[int],
    *,
    wanted: int | None,
    logprobs: int | None = None,
    choice: int = 0,
    guide: Guide | None = None,
) -> Sampling:
    """The engine's settings for choice number `choice` of a request whose prompt has these tokens.

    Raises InvalidRequest when the prompt and the `wanted` tokens do not fit into the context.
    """
    room = served.context - len(prompt)
    if room < 1 or (wanted or 0) > room:
        needs = f" and the {wanted} asked for as answer" if wanted and room >= 1 else ""
        raise InvalidRequest(
            f"the model's context holds {served.context} tokens; the prompt's {len(prompt)}{needs} do not fit. Shorten "
            f"the prompt or lower max_tokens",
            "messages" if isinstance(request, ChatRequest) else "prompt",
            "context_length_exceeded",
        )

    def chosen(key: str, neutral: float) -> float:
        given = getattr(request, key)
        return float(served.defaults.get(key, neutral) if given is None else given)

    return Sampling(
        max_tokens=room if wanted is None else wanted,
        temperature=chosen("temperature", 1.0),
        top_p=chosen("top_p", 1.0),
        top_k=max(0, int(chosen("top_k", 0))),
        min_p=chosen("min_p", 0.0),
        repetition_penalty=chosen("repetition_penalty", 1.0),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        # Each choice has a seed of its own, or n choices would be n times the same.
        seed=None if request.seed is None else (request.seed + choice) & (2**63 - 1),
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
        stop_token_ids=frozenset(request.stop_token_ids or ()),
        logprobs=logprobs,
        logit_bias=_logit_bias(request.logit_bias or {}, served.vocabulary),
        guide=guide,
    )


def _logit_bias(given: Mapping[str, float], vocabulary: int) -> dict[int, float]:
    bias = {}
    for key, value in given.items():
        if not key.isdecimal() or int(key) >= vocabulary:
            raise InvalidRequest(f"logit_bias: {key!r} is not a token number below {vocabulary}", "logit_bias")
        bias[int(key)] = value
    return bias


def check_chat(request: ChatRequest) -> None:
    """Refuse what this engine cannot do, in words."""
    if not request.messages:
        raise InvalidRequest("messages is empty; give at least one", "messages")
    if request.functions or request.function_call:
        raise InvalidRequest("functions and function_call are not built; use tools and tool_choice", "functions")
    for place, message in enumerate(request.messages):
        _check_message(place, message)


def _check_message(place: int, message: dict[str, Any]) -> None:
    where = f"messages[{place}]"
    if not isinstance(message.get("role"), str):
        raise InvalidRequest(f"{where}.role is missing or no text", where)
    if message["role"] == "developer":
        message["role"] = "system"  # OpenAI's newer word, which no template knows
    for call in message.get("tool_calls") or ():
        _read_arguments(where, call)
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = "".join(_text_part(where, part) for part in content)
    elif content is None and (message.get("tool_calls") or message["role"] == "assistant"):
        message["content"] = ""
    elif not isinstance(content, str):
        raise InvalidRequest(f"{where}.content is neither a text nor a list of parts", where)


def _read_arguments(where: str, call: Any) -> None:
    """Arguments come as JSON text, and templates write them as JSON themselves: they are given the object."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where}.tool_calls holds a call without a function's name", where)
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"] or "{}")
        except ValueError as error:
            raise InvalidRequest(f"{where}.tool_calls: the arguments are no JSON: {error}", where) from error


def _text_part(where: str, part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise InvalidRequest(f"{where}.content holds a part that is not text; this model takes text alone", where)
    return str(part["text"])


def chat_options(request: ChatRequest, tools: Tools | None) -> dict[str, Any]:
    """What the chat template is given beside the messages."""
    options: dict[str, Any] = {} if tools is None else {"tools": list(tools.given)}
    if request.chat_template_kwargs:
        reserved = {
            "tokenize",
            "add_generation_prompt",
            "return_dict",
            "return_tensors",
            "chat_template",
            "conversation",
            "tools",
            "messages",
        }
        wrong = sorted(reserved & request.chat_template_kwargs.keys())
        if wrong:
            raise InvalidRequest(f"chat_template_kwargs may not set {', '.join(wrong)}", "chat_template_kwargs")
        options |= request.chat_template_kwargs
    return options


def token_lists(
    given: str | list[str | int | list[int]], vocabulary: Vocabulary, field: str, most: int
) -> list[tuple[int, ...]]:
    """What a field means that takes one text, one list of tokens, or up to `most` of either. Raises InvalidRequest."""
    if isinstance(given, str):
        return [tuple(vocabulary.encode(given))]
    numbers = [one for one in given if isinstance(one, int)]
    if numbers and len(numbers) == len(given):
        return [check_tokens(numbers, vocabulary.size, field)]
    if numbers or not 1 <= len(given) <= most:
        what = f"mixes tokens and {field}s" if numbers else f"holds {len(given)} {field}s"
        raise InvalidRequest(f"{field} {what}; give one text, one list of tokens, or 1 to {most} of them", field)
    return [
        tuple(vocabulary.encode(one)) if isinstance(one, str) else check_tokens(one, vocabulary.size, field)
        for one in given
        if not isinstance(one, int)
    ]


def check_tokens(ids: Sequence[int], size: int, field: str = "prompt") -> tuple[int, ...]:
    """Raises InvalidRequest for a number that is no token."""
    wrong = next((one for one in ids if not 0 <= one < size), None)
    if wrong is not None:
        raise InvalidRequest(f"{field} holds the token {wrong}; tokens go from 0 to {size - 1}", field)
    return tuple(ids)
