"""Answers that must have a form (a JSON schema, a regular expression): which tokens may come next.

llguidance keeps the grammar and says for each step which tokens of the vocabulary go on; the sampler rules out the
others. It follows the grammar byte by byte, so that any tokenizer fits, and costs some tens of microseconds a token.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from kaito.runtime.serve.engines.base import Form
from kaito.runtime.serve.errors import InvalidRequest

# Models may indent, and some never stop doing so: a run of blanks ends after this many.
BLANKS = r"[\x20\x0A\x0D\x09]{1,32}"
ONE_BLANK = r"\x20"


class MatcherGuide:
    """Implements `base.Guide` over one llguidance matcher."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def copy(self) -> MatcherGuide:
        return MatcherGuide(self._matcher.deep_copy())

    def allowed(self) -> bytes:
        mask: bytes = self._matcher.compute_bitmask()
        return mask

    def consume(self, token: int) -> None:
        self._matcher.consume_token(token)

    @property
    def is_done(self) -> bool:
        return bool(self._matcher.is_stopped())


class Guides:
    """Makes guides for one tokenizer. The tokenizer's table is made when first asked for: it takes up to a second."""

    def __init__(self, tokenizer: Any, size: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._ends = ends
        self._lock = threading.Lock()
        self._table: Any = None

    def make(self, form: Form) -> MatcherGuide:
        """Raises InvalidRequest for a form that cannot be followed, in the words of what is wrong with it."""
        try:
            from llguidance import LLMatcher
        except ImportError as error:
            raise InvalidRequest(f"{form.field} needs llguidance, which is not installed here", form.field) from error
        try:
            grammar = _grammar(form)
        except ValueError as error:
            raise InvalidRequest(f"{form.field}: {error}", form.field) from error
        matcher = LLMatcher(self._made_table(form), grammar, log_level=0)
        if matcher.is_error():
            text = str(matcher.get_error()).strip().splitlines()[0]
            raise InvalidRequest(f"{form.field} cannot be followed: {text}", form.field)
        return MatcherGuide(matcher)

    def _made_table(self, form: Form) -> Any:
        from llguidance.hf import from_tokenizer

        with self._lock:
            if self._table is None:
                size = max(self._size, len(self._tokenizer))
                ends = sorted(end for end in self._ends if end < len(self._tokenizer))
                if not ends:  # the table wants one; once it comes, the form is complete and the answer ends
                    ends = [self._tokenizer.eos_token_id or 0]
                try:
                    self._table = from_tokenizer(self._tokenizer, n_vocab=size, eos_token=ends)
                except ValueError as error:
                    raise InvalidRequest(
                        f"{form.field} is not built for this model's tokenizer ({error}); leave it out", form.field
                    ) from error
            return self._table


def _grammar(form: Form) -> str:
    """llguidance's grammar. Raises ValueError."""
    from llguidance import LLMatcher

    match form.kind:
        case "json":
            blanks = ONE_BLANK if form.is_compact else BLANKS
            made = LLMatcher.grammar_from_json_schema(form.content, defaults={"whitespace_pattern": blanks})
        case "regex":
            made = LLMatcher.grammar_from_regex(form.content)
        case "choice":
            choices = " | ".join(json.dumps(one) for one in json.loads(form.content))
            made = LLMatcher.grammar_from_lark(f"start: {choices}")
        case "lark":
            made = LLMatcher.grammar_from_lark(form.content)
    return str(made)
