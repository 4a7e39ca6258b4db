"""The tokenizer as the HTTP surface sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from kaito.runtime.serve.engines.base import Form, Guide
from kaito.runtime.serve.engines.builtin.guide import Guides
from kaito.runtime.serve.errors import InvalidRequest


class TokenizerVocabulary:
    """A transformers tokenizer. Its calls are thread-safe as long as nobody changes its settings."""

    def __init__(self, tokenizer: Any, size: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._guides = Guides(tokenizer, size, ends)

    @property
    def size(self) -> int:
        return self._size

    @property
    def has_chat_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    @property
    def chat_template(self) -> str:
        template = self._tokenizer.chat_template or ""
        return template if isinstance(template, str) else str(template.get("default", ""))

    def guide(self, form: Form) -> Guide:
        return self._guides.make(form)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[int]:
        if not self.has_chat_template:
            raise InvalidRequest(
                "this model has no chat template, so it takes no messages; use /v1/completions with a prompt",
                "messages",
            )
        try:
            encoded = self._tokenizer.apply_chat_template(
                [dict(one) for one in messages], add_generation_prompt=True, return_dict=True, **options
            )
        except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
            raise InvalidRequest(f"the model's chat template refuses these messages: {error}", "messages") from error
        ids: list[int] = encoded["input_ids"]
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True, clean_up: bool = False) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=clean_up
        )
        return text

    def token_bytes(self, token: int) -> bytes:
        return self.decode([token], skip_special=False).encode("utf-8", "surrogatepass")
