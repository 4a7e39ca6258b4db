"""`POST /chat`: the README's call, and KAITO v0.3's REST interface.

Where this differs from v0.3 it is on purpose. A bare prompt goes through the model's chat template, since the models
that people serve are instruct models and an answer is what they want; the answer comes without the prompt unless
`return_full_text` is true; and it is greedy unless `generate_kwargs.do_sample` is true, so that the same question has
the same answer. `chat_defaults: v0.3` in inference_config.yaml brings v0.3's own back, for clients that count on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from kaito.runtime.serve.answers import Answers, Wanted
from kaito.runtime.serve.engines.base import Engine
from kaito.runtime.serve.errors import InvalidRequest
from kaito.runtime.serve.openai import OpenAI
from kaito.runtime.serve.requests import ChatRequest, Served, check_chat, decode, sampling_of

DEFAULT_NEW_TOKENS = 200
PROMPT_REQUIRED = "Text generation parameter prompt required"
MESSAGES_REQUIRED = "Conversational parameter messages required"
# Parameters of transformers' generate that would change the answer and are not built, with the value that does nothing.
NEUTRAL: Mapping[str, Any] = {
    "num_beams": 1, "num_beam_groups": 1, "typical_p": 1.0, "diversity_penalty": 0.0, "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0, "num_return_sequences": 1, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
    "length_penalty": 1.0,
    "penalty_alpha": None, "bad_words_ids": None, "force_words_ids": None, "guidance_scale": None,
}  # fmt: skip
# Parameters of generate that do not change what is answered here.
IGNORED = frozenset({"early_stopping", "pad_token_id", "bos_token_id", "use_cache", "return_dict_in_generate",
                     "output_scores", "output_attentions", "output_hidden_states", "max_time"})  # fmt: skip

Tokens = TypeVar("Tokens", list[int], tuple[int, ...])
Positive = Annotated[int, Meta(ge=1, le=1 << 31)]
Count = Annotated[int, Meta(ge=0, le=1 << 31)]


class GenerateKwargs(msgspec.Struct):
    """The parameters of generate that are carried out."""

    max_length: Positive | None = None
    max_new_tokens: Positive | None = None
    min_length: Count = 0
    min_new_tokens: Count = 0
    do_sample: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=1 << 31)] = 10
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    seed: int | None = None
    eos_token_id: Count | list[Count] | None = None
    stop_strings: str | list[str] | None = None


class KaitoChatRequest(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    return_full_text: bool | None = None
    clean_up_tokenization_spaces: bool = False
    prefix: str | None = None
    handle_long_generation: str | None = None
    generate_kwargs: dict[str, Any] | None = None


@dataclass(frozen=True)
class ChatDefaults:
    """What a request means that does not say: the prompt as it is or as a question, all of the text or the answer."""

    uses_template: bool = True
    returns_full_text: bool = False
    samples: bool = False

    def full_text(self, request: KaitoChatRequest) -> bool:
        return self.returns_full_text if request.return_full_text is None else request.return_full_text

    def temperature(self, kwargs: GenerateKwargs) -> float:
        is_sampled = self.samples if kwargs.do_sample is None else kwargs.do_sample
        return kwargs.temperature if is_sampled else 0.0


DEFAULTS: Mapping[str, ChatDefaults] = {
    "": ChatDefaults(),
    "v0.3": ChatDefaults(uses_template=False, returns_full_text=True, samples=True),
}


class KaitoChat:
    def __init__(self, engine: Engine, answers: Answers, openai: OpenAI, defaults: str = "") -> None:
        self._defaults = DEFAULTS[defaults]
        self._engine = engine
        self._answers = answers
        self._openai = openai

    async def answer(self, content: bytes) -> dict[str, str]:
        """`{"Result": text}`. Raises RequestError."""
        request: KaitoChatRequest = decode(content or b"{}", KaitoChatRequest)
        kwargs = generate_kwargs(request.generate_kwargs or {})
        model = self._openai.model_of(request.model)
        shown, prompt = self._prompt(request)
        limit = new_tokens(kwargs, len(prompt), self._engine.context_length)
        prompt = cut_prompt(request, prompt, limit, self._engine.context_length)
        wanted = self._wanted(model, prompt, limit, kwargs)
        answer = await self._answers.whole(wanted)
        text = answer.text
        if request.clean_up_tokenization_spaces:
            ids = [token.id for token in answer.tokens if not token.is_end]
            text = self._engine.vocabulary.decode(ids, clean_up=True)
        return {"Result": shown + text if self._defaults.full_text(request) else text}

    def _prompt(self, request: KaitoChatRequest) -> tuple[str, tuple[int, ...]]:
        """The prompt as the user wrote it, and as the model reads it."""
        vocabulary = self._engine.vocabulary
        if request.prompt:
            text = (request.prefix or "") + request.prompt
            if not self._defaults.uses_template or not vocabulary.has_chat_template:
                return text, tuple(vocabulary.encode(text))
            return text, tuple(vocabulary.encode_chat([{"role": "user", "content": text}], {}))
        if request.messages:
            check_chat(ChatRequest(messages=request.messages))
            shown = "".join(f"{one['role']}: {one['content']}\n" for one in request.messages)
            return shown, tuple(vocabulary.encode_chat(request.messages, {}))
        if request.messages is not None and request.prompt is None:
            raise InvalidRequest(MESSAGES_REQUIRED, "messages")
        raise InvalidRequest(PROMPT_REQUIRED, "prompt")

    def _wanted(self, model: str, prompt: tuple[int, ...], limit: int, kwargs: GenerateKwargs) -> Wanted:
        ends = kwargs.eos_token_id
        like = ChatRequest(
            messages=[],
            temperature=self._defaults.temperature(kwargs),
            top_p=kwargs.top_p,
            top_k=kwargs.top_k,
            min_p=kwargs.min_p,
            repetition_penalty=kwargs.repetition_penalty,
            seed=kwargs.seed,
            min_tokens=max(kwargs.min_new_tokens, kwargs.min_length - len(prompt), 0),
            stop_token_ids=[ends] if isinstance(ends, int) else ends,
            stop=kwargs.stop_strings,
        )
        served = Served(self._engine.context_length, self._engine.vocabulary.size)
        sampling = sampling_of(like, served, prompt, wanted=limit)
        return Wanted(model, prompt, sampling, like.stops)


def generate_kwargs(given: Mapping[str, Any]) -> GenerateKwargs:
    """Raises InvalidRequest for a parameter that is not built, is unknown, or has the wrong type."""
    known = {}
    for key, value in given.items():
        if key in NEUTRAL:
            if value is not None and value != NEUTRAL[key]:
                raise InvalidRequest(
                    f"generate_kwargs.{key} is {value!r}, which this engine does not carry out; leave it out", key
                )
        elif key in GenerateKwargs.__struct_fields__:
            if value is not None:
                known[key] = value
        elif key not in IGNORED:
            raise InvalidRequest(f"generate_kwargs.{key} is not a parameter that this engine knows; leave it out", key)
    try:
        return msgspec.convert(known, GenerateKwargs)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"generate_kwargs is wrong: {error}", "generate_kwargs") from error


def new_tokens(kwargs: GenerateKwargs, prompt: int, context: int) -> int:
    """Tokens to generate at most: max_new_tokens, or what max_length leaves, or the default; within the context."""
    if kwargs.max_new_tokens is not None:
        return kwargs.max_new_tokens
    if kwargs.max_length is not None:
        return max(1, min(kwargs.max_length, context) - prompt)
    return max(1, min(DEFAULT_NEW_TOKENS, context - prompt))


def cut_prompt(request: KaitoChatRequest, prompt: Tokens, limit: int, context: int) -> Tokens:
    """The prompt, or its end that leaves room for `limit` tokens where the request asks so. Raises InvalidRequest."""
    given = request.handle_long_generation
    if given not in (None, "hole"):
        raise InvalidRequest(f"handle_long_generation is {given!r}; it takes only 'hole'", "handle_long_generation")
    room = context - limit
    return prompt[-room:] if given == "hole" and len(prompt) > room > 0 else prompt
