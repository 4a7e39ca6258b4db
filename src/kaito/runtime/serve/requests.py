"""Requests of the OpenAI API, decoded and checked. Source: OpenAI's API reference; vLLM's additions are marked.

Unknown fields are ignored, as OpenAI's and vLLM's servers do; a known field that is not built is refused, because an
answer that silently leaves it out would be a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kaito.runtime.serve.engines.base import Sampling, Vocabulary
from kaito.runtime.serve.errors import InvalidRequest

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
    response_format: dict[str, Any] | None = None
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


def sampling_of(
    request: Common,
    choice: int,
    wanted: int | None,
    logprobs: int | None,
    prompt: Sequence[int],
    context: int,
    vocabulary: int,
) -> Sampling:
    """The engine's settings for choice number `choice` of a request whose prompt has these tokens.

    Raises InvalidRequest when the prompt and the `wanted` tokens do not fit into `context`.
    """
    room = context - len(prompt)
    if room < 1 or (wanted or 0) > room:
        needs = f" and the {wanted} asked for as answer" if wanted and room >= 1 else ""
        raise InvalidRequest(
            f"the model's context holds {context} tokens; the prompt's {len(prompt)}{needs} do not fit. Shorten the "
            f"prompt or lower max_tokens",
            "messages" if isinstance(request, ChatRequest) else "prompt",
            "context_length_exceeded",
        )
    temperature = 1.0 if request.temperature is None else request.temperature
    return Sampling(
        max_tokens=room if wanted is None else wanted,
        temperature=temperature,
        top_p=request.top_p or 1.0,
        top_k=max(0, request.top_k or 0),
        min_p=request.min_p or 0.0,
        repetition_penalty=request.repetition_penalty or 1.0,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        # Each choice has a seed of its own, or n choices would be n times the same.
        seed=None if request.seed is None else (request.seed + choice) & (2**63 - 1),
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
        stop_token_ids=frozenset(request.stop_token_ids or ()),
        logprobs=logprobs,
        logit_bias=_logit_bias(request.logit_bias or {}, vocabulary),
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
    kind = (request.response_format or {}).get("type", "text")
    if kind != "text":
        raise InvalidRequest(
            f"response_format {kind!r} is not built into this engine; serve with the vllm engine, or ask in the prompt",
            "response_format",
        )
    if isinstance(request.tool_choice, dict) or request.tool_choice == "required":
        raise InvalidRequest("this engine cannot force a tool; leave tool_choice out", "tool_choice")
    for place, message in enumerate(request.messages):
        _check_message(place, message)


def _check_message(place: int, message: dict[str, Any]) -> None:
    where = f"messages[{place}]"
    if not isinstance(message.get("role"), str):
        raise InvalidRequest(f"{where}.role is missing or no text", where)
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = "".join(_text_part(where, part) for part in content)
    elif content is None and (message.get("tool_calls") or message["role"] == "assistant"):
        message["content"] = ""
    elif not isinstance(content, str):
        raise InvalidRequest(f"{where}.content is neither a text nor a list of parts", where)


def _text_part(where: str, part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise InvalidRequest(f"{where}.content holds a part that is not text; this model takes text alone", where)
    return str(part["text"])


def chat_options(request: ChatRequest) -> dict[str, Any]:
    """What the chat template is given beside the messages."""
    options: dict[str, Any] = {}
    if request.tools and request.tool_choice != "none":
        options["tools"] = request.tools
    if request.chat_template_kwargs:
        reserved = {
            "tokenize",
            "add_generation_prompt",
            "return_dict",
            "return_tensors",
            "chat_template",
            "conversation",
        }
        wrong = sorted(reserved & request.chat_template_kwargs.keys())
        if wrong:
            raise InvalidRequest(f"chat_template_kwargs may not set {', '.join(wrong)}", "chat_template_kwargs")
        options |= request.chat_template_kwargs
    return options


def prompts_of(request: CompletionRequest, vocabulary: Vocabulary, size: int) -> list[tuple[int, ...]]:
    """The prompts of a completion request as tokens: one text, several, or tokens already."""
    given = request.prompt
    if isinstance(given, str):
        return [tuple(vocabulary.encode(given))]
    numbers = [one for one in given if isinstance(one, int)]
    if numbers and len(numbers) == len(given):
        return [_checked(numbers, size)]
    if numbers or not 1 <= len(given) <= MAX_CHOICES:
        what = "mixes tokens and prompts" if numbers else f"holds {len(given)} prompts"
        raise InvalidRequest(
            f"prompt {what}; give one text, one list of tokens, or 1 to {MAX_CHOICES} of them", "prompt"
        )
    return [
        tuple(vocabulary.encode(one)) if isinstance(one, str) else _checked(one, size)
        for one in given
        if not isinstance(one, int)
    ]


def _checked(ids: list[int], size: int) -> tuple[int, ...]:
    wrong = next((one for one in ids if not 0 <= one < size), None)
    if wrong is not None:
        raise InvalidRequest(f"prompt holds the token {wrong}; tokens go from 0 to {size - 1}", "prompt")
    return tuple(ids)
